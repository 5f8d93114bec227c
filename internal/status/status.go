// Package status holds the plain types in which keyd shows its state: the control socket, the web page and the
// terminal all print them. Its rule: only data, and none of it secret.
package status

import (
	"fmt"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Snapshot is the daemon at one moment. Which keys it has, a Selection says.
type Snapshot struct {
	Version  string    `json:"version"`
	Instance string    `json:"instance"`
	At       time.Time `json:"at"`
	Started  time.Time `json:"started"`
	// Ready: keyd has looked at every vault once, or follows a leader, and can work.
	Ready bool `json:"ready"`
	// Hosts is nil where one host has the store to itself.
	Hosts    *Hosts    `json:"hosts,omitempty"`
	Summary  Summary   `json:"summary"`
	Problems []Problem `json:"problems"` // worst first
	// Proposals are the acts that wait for a second operator, oldest first.
	Proposals []Proposal `json:"proposals"`
	HSM       HSM        `json:"hsm"`
	Vaults    []Vault    `json:"vaults"`
	Keys      []Key      `json:"keys"`
}

// Key finds a key by its name, whose case may differ.
func (s Snapshot) Key(name string) (Key, bool) {
	i := slices.IndexFunc(s.Keys, func(k Key) bool { return k.Name == name })
	if i < 0 {
		i = slices.IndexFunc(s.Keys, func(k Key) bool { return key.SameName(k.Name, name) })
	}
	if i < 0 {
		return Key{}, false
	}
	return s.Keys[i], true
}

// Severity orders problems.
type Severity string

// The severities, worst first.
const (
	Critical Severity = "critical" // data may become or is unreadable
	Warning  Severity = "warning"
)

// Problem is one trouble in words that an operator understands.
type Problem struct {
	Severity Severity `json:"severity"`
	Key      string   `json:"key,omitempty"`
	Vault    string   `json:"vault,omitempty"`
	Text     string   `json:"text"`
	Remedy   string   `json:"remedy,omitempty"`
	Runbook  string   `json:"runbook,omitempty"` // anchor in docs/runbooks.md
	// Effects is what follows from it, counted: no problems of their own.
	Effects []string `json:"effects,omitzero"`

	Hold *key.Hold `json:"-"` // of a problem that is a hold
	// Concerns names the keys for which something follows from it, or which show it.
	Concerns []string `json:"-"`
}

// About reports whether the problem is a key's, or concerns it.
func (p Problem) About(name string) bool {
	_, concerned := slices.BinarySearch(p.Concerns, name)
	return p.Key == name || concerned
}

// HSM is the HSM side as the network side sees it.
type HSM struct {
	Up    bool        `json:"up"`
	Since time.Time   `json:"since,omitzero"` // of the present state
	Error string      `json:"error,omitempty"`
	Info  key.HSMInfo `json:"info"` // as the HSM side reported it at SeenAt
	// SeenAt is when the HSM side last answered.
	SeenAt time.Time `json:"seen_at,omitzero"`
	// Unit is the systemd unit whose journal has the details: keyd-hsm, or keyd if keyd itself starts the HSM side.
	Unit string `json:"unit,omitempty"`
	// History is nil if no history is kept.
	History *History `json:"history,omitempty"`
}

// The states of the HSM side.
const (
	HSMUp       = "up"
	HSMDegraded = "degraded" // it answers and cannot work: Info.Degraded says why
	HSMDown     = "down"     // it does not answer: Error says why
	HSMUnasked  = "not asked yet"
)

// State is one of the states above.
func (h HSM) State() string {
	switch {
	case !h.Up && h.Since.IsZero() && h.Error == "":
		return HSMUnasked
	case !h.Up:
		return HSMDown
	case h.Info.Degraded != "":
		return HSMDegraded
	}
	return HSMUp
}

// Trouble is why the HSM side cannot be used now; "" if it can be used, or was not asked yet.
func (h HSM) Trouble() string {
	switch h.State() {
	case HSMDown:
		return h.Error
	case HSMDegraded:
		return h.Info.Degraded
	}
	return ""
}

// Vault is one vault as last seen.
type Vault struct {
	key.Vault
	Reachable bool            `json:"reachable"`
	SeenAt    time.Time       `json:"seen_at,omitzero"` // last completed look
	Error     string          `json:"error,omitempty"`
	Reason    key.Reason      `json:"reason,omitempty"` // of the error
	KEK       string          `json:"kek,omitempty"`    // kid with version
	KEKPrint  key.Fingerprint `json:"kek_fingerprint,omitempty"`
	KEKTrust  string          `json:"kek_trust,omitempty"` // "configured", "first use", or why not
	// KEKs are the KEKs of the vault's record, oldest first. KEKRequest is a new one that was requested and is not
	// made yet, KEKNext is when the schedule makes one due, and KEKWaiting is what the next step waits for.
	KEKs       []KEK           `json:"keks"`
	KEKRequest *key.KEKRequest `json:"kek_request,omitempty"`
	KEKNext    time.Time       `json:"kek_next,omitzero"`
	KEKWaiting string          `json:"kek_waiting,omitempty"`
	ClockSkew  Seconds         `json:"clock_skew_seconds"` // vault minus local
	History    *History        `json:"history,omitempty"`  // nil if no history is kept
	Keys       map[string]int  `json:"keys,omitempty"`     // the keys that the vault should have, by state
}

// The states of a vault.
const (
	VaultReachable   = "reachable"
	VaultUnreachable = "unreachable" // it does not answer, or refuses keyd: Error says why
	VaultUnasked     = "not asked yet"
)

// State is one of the states above.
func (v Vault) State() string {
	switch {
	case v.Reachable:
		return VaultReachable
	case v.Error == "":
		return VaultUnasked
	}
	return VaultUnreachable
}

// Key is one managed key.
type Key struct {
	Name         string        `json:"name"`
	Spec         key.Spec      `json:"spec"`
	Schedule     string        `json:"schedule,omitempty"`
	Labels       []string      `json:"labels,omitzero"`
	Retained     bool          `json:"retained,omitempty"`
	State        string        `json:"state"` // see KeyStates
	LastRotation time.Time     `json:"last_rotation,omitzero"`
	NextRotation time.Time     `json:"next_rotation,omitzero"`
	Hold         *key.Hold     `json:"hold,omitempty"`
	Waiting      string        `json:"waiting,omitempty"` // what the loop waits for, in words
	Doing        string        `json:"doing,omitempty"`   // the step under way
	Error        string        `json:"error,omitempty"`   // of the last failed step
	Requests     []key.Request `json:"requests"`
	Generations  []Generation  `json:"generations"`
	Spares       *Spares       `json:"spares,omitempty"` // nil for a key that has none and asks for none
	Retire       *RetireRule   `json:"retire,omitempty"` // nil: keyd disables nothing
	Abandoned    int           `json:"abandoned,omitempty"`
	Exposed      []Exposed     `json:"exposed"`
	// RotationSince is when the rotation under way was reserved; zero when none is.
	RotationSince time.Time `json:"rotation_since,omitzero"`
	// Replaced is how far the replacing of the key by another one is; nil: it is not replaced.
	Replaced *Replaced `json:"replaced,omitempty"`
	// MissingFrom lists the URLs of the vaults where the latest generation is not active, although it is active in
	// another.
	MissingFrom []string `json:"missing_from"`
	Vaults      []string `json:"vaults"` // URLs, in rotation order
	Proofs      []Proof  `json:"proofs"`
	// Consumers is nil where there is nobody to ask about who uses the key.
	Consumers *Consumers `json:"consumers,omitempty"`
}

// Spares are the generations that a key has in advance.
type Spares struct {
	Wanted int `json:"wanted"` // by the configuration
	Ready  int `json:"ready"`  // a rotation could place them at once
	// Generations are all of them, also those that are being made or that the configuration no longer asks for.
	Generations []Generation `json:"generations"`
}

// Words is how many spares there are, for people: "1 of 2 ready".
func (s Spares) Words() string { return fmt.Sprintf("%d of %d ready", s.Ready, s.Wanted) }

// The values of Key.State.
const (
	StateOK       = "ok"
	StateNew      = "new"      // no generation is active yet
	StateRotating = "rotating" // a generation is on its way
	StatePartial  = "partial"  // active in some of its vaults
	StateHeld     = "held"
	StateRetained = "retained"
	StateFailing  = "failing" // the last step failed; it is tried again
	StateTrouble  = "trouble" // its steps are done, and a critical problem is about it
)

// Proof is the last result of proving one version.
type Proof struct {
	Vault      string      `json:"vault"` // URL
	Version    string      `json:"version"`
	Generation int         `json:"generation"`
	Newest     bool        `json:"newest"`
	Outcome    key.Outcome `json:"outcome"`
	At         time.Time   `json:"at"`
	PassedAt   time.Time   `json:"passed_at,omitzero"`
	Failing    bool        `json:"failing,omitempty"` // refuted, or inconclusive twice in a row
	Leg        string      `json:"leg,omitempty"`     // which leg did not pass
	Reason     key.Reason  `json:"reason,omitempty"`  // why, of an inconclusive one
	Error      string      `json:"error,omitempty"`
}

// Certain reports whether a proof that did not pass shows that the version itself fails its consumers. Otherwise keyd
// only does not know: the HSM or the vault did not answer, or did not let keyd in.
func (p Proof) Certain() bool { return p.Outcome == key.WasRefuted || p.Reason.OfVersion() }

// Where names the leg that did not pass, with the reason if it is known: "vault-wrap (KeyNotYetValid)".
func (p Proof) Where() string {
	if p.Reason == "" {
		return p.Leg
	}
	return p.Leg + " (" + string(p.Reason) + ")"
}

// Phase of an event.
type Phase string

// The phases: every step begins, and then is done or failed. A wait says why keyd does nothing now.
const (
	Begin  Phase = "begin"
	Done   Phase = "done"
	Failed Phase = "failed"
	Wait   Phase = "wait"
)

// Event is one event of the loop, reported as it happens.
type Event struct {
	At         time.Time `json:"at"`
	Key        string    `json:"key"`
	Generation int       `json:"generation,omitempty"`
	Vault      string    `json:"vault,omitempty"` // nickname
	Version    string    `json:"version,omitempty"`
	Step       string    `json:"step"` // reserve, generate, pin, import, prove, finish, …
	Phase      Phase     `json:"phase"`
	Detail     string    `json:"detail,omitempty"`
	Error      string    `json:"error,omitempty"`
	Elapsed    Seconds   `json:"elapsed_seconds,omitempty"` // of a finished step
	Requests   []key.ID  `json:"requests"`                  // the requests that the generation answers
}
