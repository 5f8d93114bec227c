// Package rotate brings each key from its present state to what its policy asks: observe, plan, one step, again. Its
// rule: it acts, and never decides. Only StepKey acts, one step at a time, and every step may be repeated, or cut
// short at any instruction. Operators' requests enter the record here, too.
package rotate

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/attest"
	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/proof"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/term"
)

// HSM is what steps need from the HSM side. Its errors carry a key.Class.
type HSM interface {
	proof.HSM
	// Describe identifies the HSM, for the audit.
	Describe(ctx context.Context) (key.HSMInfo, error)
	// NewID draws a random CKA_ID for a pair to come.
	NewID(ctx context.Context) (key.ID, error)
	// MayGenerate says why the HSM side would not make a pair now. It changes nothing.
	MayGenerate(ctx context.Context, name string, number int, spec key.Spec) error
	// Generate makes a pair under a CKA_ID that was never used, on a token that has the pair known; "": none.
	Generate(ctx context.Context, id key.ID, name string, number int, spec key.Spec, known key.ID) error
	// PublicKey reads back the attributes of the one pair under id and makes it prove possession of the private key.
	PublicKey(ctx context.Context, id key.ID) (key.Material, error)
	// WrapFor returns the private key as CKM_RSA_AES_KEY_WRAP ciphertext (PKCS#11 v3.0 section 2.1.21) for a KEK that
	// it trusts.
	WrapFor(ctx context.Context, id key.ID, kek key.KEK) ([]byte, error)
	// Destroy removes everything under an abandoned id. It refuses a pair that was ever wrapped.
	Destroy(ctx context.Context, id key.ID) error
}

// Vault is what steps need from one vault. Its errors carry a key.Class; those of Import are Ambiguous unless the
// vault certainly did not take the key.
type Vault interface {
	proof.Vault
	// CreateKEK makes a new version of the KEK, unless the newest version is not the version after ("": none). Its
	// errors are classed like those of Import.
	CreateKEK(ctx context.Context, after string, tags map[string]string) (key.KEK, error)
	// DisableKEK sets enabled=false on one version of the key exchange key.
	DisableKEK(ctx context.Context, version string) error
	Import(ctx context.Context, r key.ImportRequest) (key.Version, error)
	// Newest is the version that a caller who names no version gets.
	Newest(ctx context.Context, name string) (key.Version, error)
	Disable(ctx context.Context, name, version string) error
	// Enable sets enabled=true on one version.
	Enable(ctx context.Context, name, version string) error
	// ClockSkew is the vault's clock minus the local one at the last answer.
	ClockSkew() (skew time.Duration, known bool)
}

// Store keeps records by compare-and-swap, and saves the audit entries of a change in the same transaction.
type Store interface {
	// Load returns an empty record of revision 0 for a name that was never saved.
	Load(ctx context.Context, name string) (record.Record, error)
	// Save fails with a key.Retry error if the record changed since it was loaded, and otherwise returns the record
	// with its new revision.
	Save(ctx context.Context, r record.Record, entries ...chain.Entry) (record.Record, error)
	// SaveTogether saves several records, each with its entries, or none of them.
	SaveTogether(ctx context.Context, recs []record.Record, entries [][]chain.Entry) error
	// Names lists the keys that have a record.
	Names(ctx context.Context) ([]string, error)
	// LoadVault and SaveVault do the same for a vault's record, by its URL.
	LoadVault(ctx context.Context, url string) (record.Vault, error)
	SaveVault(ctx context.Context, r record.Vault, entries ...chain.Entry) (record.Vault, error)
}

// Observer looks at the HSM and the vaults, and keeps the newest observation of each key.
type Observer interface {
	// Expect is told every key before the first look at one.
	Expect(policies []key.Policy)
	// Observe brings what is known of a key up to date, and Refresh only parts of it; both keep it. Look looks at
	// everything, and keeps nothing.
	Observe(ctx context.Context, p key.Policy, rec record.Record) *record.Observation
	Refresh(ctx context.Context, p key.Policy, rec record.Record, parts plan.Parts) *record.Observation
	Look(ctx context.Context, p key.Policy, rec record.Record) *record.Observation
	// Inspect looks at everything of a key, proves its newest version in these vaults, and keeps nothing.
	Inspect(ctx context.Context, p key.Policy, rec record.Record, urls []string) *record.Observation
	// Users is the last look at those who use a key, whoever made it.
	Users(p key.Policy) record.Usage
	// Last is the newest observation that was kept; nil for none. The caller must not change it.
	Last(name string) *record.Observation
	// Use notes that a step was planned on the newest observation, and Learn what came of it. Used reports whether
	// nothing was learnt yet.
	Use(name string)
	Learn(record.Learnt)
	Used(name string) bool
	// Doubt has what the newest observation did not find asked for again, and Drop everything.
	Doubt(name string)
	Drop(name string)
	// Forget drops what is shown of a key that keyd no longer manages.
	Forget(name string)
	// Vault looks at a vault's KEKs and keeps the result; LastVault is the newest look, nil for none.
	Vault(ctx context.Context, p key.VaultPolicy, rec record.Vault) *record.VaultLook
	LastVault(url string) *record.VaultLook
	DropVault(url string)
	// KeepVault keeps a look as one that was made with this revision of the vault's record.
	KeepVault(url string, seen record.VaultLook, revision uint64)
	// AskAgain has the next looks ask vaults again that did not answer a moment ago.
	AskAgain()
}

// Vaults finds the vault with this URL; nil if the configuration has none.
type Vaults func(url string) Vault

// Config holds the parts of a Rotator.
type Config struct {
	Instance  string
	Generator string // "keyd VERSION;HSM MODEL FIRMWARE", written into transfer blobs
	HSM       HSM
	Store     Store
	Vaults    Vaults
	Observer  Observer
	Clock     func() time.Time
	// Boot is a clock that nobody can set and that goes on while the host is suspended; nil: the host's.
	Boot   func() time.Duration
	Random io.Reader // source of ids; cryptographic except in a simulation
	// Look is the slow interval at which keyd observes a quiet key again.
	Look   time.Duration
	Emit   func(status.Event)
	Logger *slog.Logger
	// Metrics may be nil.
	Metrics *Metrics
	// Mark has the audit chain signed before an import and returns the mark of the newest checkpoint, "" if there is
	// none. It never makes an import fail. It may be nil.
	Mark func(ctx context.Context) string
	// Attest gets and judges what a Managed HSM says of an imported version; asked is false where the configuration
	// asks for no attestation. It may be nil.
	Attest func(ctx context.Context, vaultURL string, want attest.Expect) (e attest.Evidence, asked bool)
	// Approvals says which acts need a second operator. It may be nil: none.
	Approvals func() key.Approvals
	// Repoint has a consumer use one version of a key. It returns once the service has done it. Its errors carry a
	// key.Class: Retry and Refused if the service certainly did not begin, Ambiguous otherwise. It may be nil: keyd
	// moves nobody.
	Repoint func(ctx context.Context, m Move) error
	// Policy finds the policy of another key, by a name whose case may differ. It may be nil: no key replaces another.
	Policy func(name string) (key.Policy, bool)
	// Settings keeps the guarded settings that are in force. It may be nil where nobody changes them.
	Settings SettingsStore
	// Seal has the audit chain signed before a version is disabled, or fails. It may be nil.
	Seal func(ctx context.Context) error
	// Prove returns nil if this daemon still leads. It may be nil: no other daemon can.
	Prove func(ctx context.Context) error
}

// Move is the moving of one consumer to another version.
type Move struct {
	Consumer      string    // resource id
	Vault         key.Vault // that it is set to
	Key           string
	From, Version string // From "": it follows the key
	// NewKey and NewVault are the key that replaces this one; "": the key stays the same.
	NewKey   string
	NewVault key.Vault
}

// Rotator applies steps to keys. It remembers nothing that a restart would miss.
type Rotator struct {
	Config
	began func(name string, s plan.Step) // called when a step of a key begins to act; nil: nobody asks
	// spareRefused has, by key, the time at which the HSM side last would not make the pair of a spare. It is not in
	// the record: a new process may as well try once more.
	spareRefused sync.Map
}

// New returns a Rotator.
func New(c Config) *Rotator {
	if c.Boot == nil {
		c.Boot = term.Boottime
	}
	return &Rotator{Config: c}
}

// now has no monotonic reading: keyd plans by the wall clock, even if somebody set it.
func (r *Rotator) now() time.Time { return r.Clock().Round(0) }

func (r *Rotator) newID() (key.ID, error) { return key.NewID(r.Random) }

// Input is the input of the plan now.
func (r *Rotator) input(p key.Policy, rec *record.Record, o *record.Observation, by *plan.NewKey) plan.Input {
	in := plan.Input{Now: r.now(), Policy: p, Record: rec, Seen: o, NewKey: by}
	if at, ok := r.spareRefused.Load(p.Key); ok {
		in.SpareRefused = at.(time.Time)
	}
	return in
}

func (r *Rotator) vault(p key.Policy, rec *record.Record, url string) (Vault, error) {
	if c := r.Vaults(url); c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("vault %s is no longer in the configuration", rec.VaultName(p, url))
}
