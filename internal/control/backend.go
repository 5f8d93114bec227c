package control

import (
	"cmp"
	"context"
	"fmt"
	"io"

	"github.com/keyd-project/keyd/internal/audit"
	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// Backend is what the server needs from the daemon. A *UsageError, *RefusedError or *ProposedError reaches the client
// as such; any other error reaches it as a failure with its text.
type Backend interface {
	Snapshot(sel status.Selection) status.Snapshot
	// Subscribe delivers events until ctx ends, and then closes the channel.
	// A slow reader loses events; it never holds up the loop.
	Subscribe(ctx context.Context) <-chan status.Event
	// Rotate records one request per key, or none at all. No keys means every
	// configured key.
	Rotate(ctx context.Context, actor string, o RotateOptions) ([]Accepted, error)
	// RotateKEK records a request for a new KEK in the vault with this nickname.
	RotateKEK(ctx context.Context, actor, vault, reason string) (KEKAccepted, error)
	Pause(ctx context.Context, actor, keyName, reason string) error
	Resume(ctx context.Context, actor, keyName, reason string) error
	// Acknowledge records that the actor answers for the enabled versions of compromised material.
	Acknowledge(ctx context.Context, actor, keyName, reason string) error
	// Prove proves every version of a key now, before whatever else waits.
	Prove(ctx context.Context, actor, keyName string) ([]status.Proof, error)
	// Adoption looks, and changes nothing. unreserved asks for what follows from using pairs that nobody reserved, too.
	Adoption(ctx context.Context, keyName string, unreserved bool) (status.Adoption, error)
	// Adopt records consent to what the Adoption with this token showed.
	Adopt(ctx context.Context, actor, keyName, reason, token string) error
	// Retirements shows what retire rules are to disable. It changes nothing.
	Retirements(ctx context.Context, q []RetireQuestion) ([]status.Retirement, error)
	// ConsentToRetire records consent to what Retirements showed with this digest.
	ConsentToRetire(ctx context.Context, actor, keyName, reason, digest string) error
	// Enable enables a version again, and returns once that is done or failed.
	Enable(ctx context.Context, actor, keyName, version, reason string) error
	// Consumers shows who uses a key, or with no name each key: by the last look, or with discover by one made now.
	Consumers(ctx context.Context, keyName string, discover bool) ([]status.KeyConsumers, error)
	// Repoint asks for consumers of a key to be moved to the newest version.
	Repoint(ctx context.Context, actor, keyName, reason string, consumers []string) error
	// Replacements shows how far replacements are, or what would follow from one. It changes nothing.
	Replacements(ctx context.Context, o ReplaceOptions) ([]status.Replacement, error)
	// Replace takes the next step of a replacement, as Replacements showed it under the digest.
	Replace(ctx context.Context, actor, reason string, o ReplaceOptions) error
	// Approve has a proposed act happen, and Withdraw ends the proposal. ActorOf(ctx) is who asks for it.
	Approve(ctx context.Context, proposal key.ID, reason string) error
	Withdraw(ctx context.Context, proposal key.ID, reason string) error
	// Settings are the guarded settings in force.
	Settings(ctx context.Context) (status.Settings, error)
	Plan(ctx context.Context) ([]status.Planned, error)
	// Explain returns what each rule of the plan says about one key.
	Explain(ctx context.Context, keyName string) (status.Explanation, error)
	// Check tries everything, or what concerns the key or the vault with this name. It tells how far it is.
	Check(ctx context.Context, name string, tell func(status.Progress)) (status.Checked, error)
	Reload(ctx context.Context, actor string) error
	// AcceptStore has this host go on with a store that lacks what the host saw in it.
	AcceptStore(ctx context.Context, actor, reason string) error
	// Audit calls fn with each entry from number from on, oldest first; with a keyName, only entries about that key.
	// It stops at fn's first error.
	Audit(ctx context.Context, from uint64, keyName string, fn func(AuditEntry) error) error
	VerifyAudit(ctx context.Context) (AuditReport, error)
	// ExportAudit writes the requested part of the audit chain.
	ExportAudit(ctx context.Context, r audit.Request, w io.Writer) error
	// AuditKey returns the public half of the key that signs checkpoints.
	AuditKey(ctx context.Context) (AuditKey, error)
	// Checkpoint gets the audit chain's head signed now.
	Checkpoint(ctx context.Context, actor string) (key.Checkpoint, error)
	// Backup writes a consistent copy of the state.
	Backup(ctx context.Context, actor string, w io.Writer) error
}

// NoReason is recorded as the reason of a rotation for which nobody gave one.
const NoReason = "none given"

// RotateOptions are the options of `keyd rotate --now`.
type RotateOptions struct {
	Keys       []string `json:"keys,omitempty"` // none: every key in the configuration
	Reason     string   `json:"reason,omitempty"`
	Compromise bool     `json:"compromise,omitempty"`
	Without    []string `json:"without,omitempty"` // nicknames of vaults to leave out
}

// Accepted is one recorded rotation request.
type Accepted struct {
	Key     string `json:"key"`
	Request key.ID `json:"request"`
	// Joined means that a request was already pending; ID is that request's.
	Joined bool `json:"joined,omitempty"`
}

// KEKAccepted is a recorded request for a new KEK.
type KEKAccepted struct {
	Vault   string `json:"vault"` // nickname
	Request key.ID `json:"request"`
	// Joined: a request was already pending, and this is its id.
	Joined bool `json:"joined,omitempty"`
}

// AuditEntry is one entry of the audit chain, with its place in it.
type AuditEntry struct {
	Seq uint64 `json:"seq"` // from 1
	chain.Entry
	Prev string `json:"prev"` // the hash of the entry before it
	Hash string `json:"hash"` // hex SHA-256
}

// AuditReport is the result of verifying the whole audit chain.
type AuditReport struct {
	Entries    uint64 `json:"entries"`
	Head       string `json:"head"` // the hash of the last entry
	Consistent bool   `json:"consistent"`
	Problem    string `json:"problem,omitempty"` // the place where it is inconsistent
}

// AuditKey is the public half of an audit key.
type AuditKey struct {
	Fingerprint key.Fingerprint `json:"fingerprint"`
	PEM         string          `json:"pem"` // a PUBLIC KEY (RFC 7468 section 13)
}

// Actor is the person or program behind a connection, for the audit.
type Actor struct {
	UID  uint32
	Name string // "" if the system does not know the uid
	// Login is the user who logged in to the session that the request came from, which sudo does not change. It is ""
	// if nobody can tell, and for whoever only reads.
	Login string
	// Host is where the request came from; "" where the instance has one host.
	Host string
}

// String returns text such as "uid 0 (root), login anna", or "uid 0 (root) on hq-a, login anna".
func (a Actor) String() string {
	on := ""
	if a.Host != "" {
		on = " on " + a.Host
	}
	return a.user() + on + ", login " + cmp.Or(a.Login, "unknown")
}

// user returns text such as "uid 1000 (anna)".
func (a Actor) user() string {
	if a.Name == "" {
		return fmt.Sprintf("uid %d", a.UID)
	}
	return fmt.Sprintf("uid %d (%s)", a.UID, a.Name)
}
