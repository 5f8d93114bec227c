package plan

import (
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/service"
)

// Kind names a step.
type Kind string

// The steps. Idle, Wait and Look change nothing.
const (
	Idle           Kind = "idle"            // nothing to do before Until
	Wait           Kind = "wait"            // work is due that cannot be done before Until
	Look           Kind = "look"            // observe first
	Hold           Kind = "hold"            // stop the key
	Reserve        Kind = "reserve"         // a new generation, with its id
	Promote        Kind = "promote"         // a spare becomes the new generation
	ReserveSpare   Kind = "reserve-spare"   // a spare, with its id
	DiscardSpare   Kind = "discard-spare"   // a spare is given up
	Generate       Kind = "generate"        // its pair in the HSM
	Abandon        Kind = "abandon"         // give its id up, take another
	Pin            Kind = "pin"             // record its fingerprint
	Import         Kind = "import"          // place one generation in one vault
	Land           Kind = "land"            // a version in the listing belongs to a placement
	Alias          Kind = "alias"           // a version in the listing repeats a placement's material
	Void           Kind = "void"            // the import certainly did not happen
	Prove          Kind = "prove"           // one placement
	Finish         Kind = "finish"          // a generation is active everywhere
	Disable        Kind = "disable"         // one version, by the retire rule
	DisableDone    Kind = "disable-done"    // a disabling that was begun happened
	DisableAborted Kind = "disable-aborted" // a disabling that was begun did not happen
	DisableLate    Kind = "disable-late"    // a disabling that was given up happened, and is to be undone
	Enable         Kind = "enable"          // one version, for an operator
	EnableDone     Kind = "enable-done"     // an enabling whose answer was lost happened
	EnableAborted  Kind = "enable-aborted"  // a version could not be enabled in time
	Repoint        Kind = "repoint"         // a consumer, to the newest version
	RepointDone    Kind = "repoint-done"    // a repointing whose answer was lost happened
	RepointFailed  Kind = "repoint-failed"  // a repointing did not happen in time
	ReplaceDone    Kind = "replace-done"    // every version of a replaced key is disabled
	RepointMet     Kind = "repoint-met"     // a request has nothing to move
	RepointLapsed  Kind = "repoint-lapsed"  // a request is too old
	EndConsent     Kind = "end-consent"     // to a retire rule that is no longer the configured one
	Sweep          Kind = "sweep"           // destroy what is under an abandoned id
)

// The steps for a vault's KEKs.
const (
	CreateKEK         Kind = "create-kek"
	KEKMade           Kind = "kek-made"            // a KEK whose making was cut short now shows
	KEKVoid           Kind = "kek-void"            // a KEK was not made
	UseKEK            Kind = "use-kek"             // from now on, imports are wrapped for it
	DisableKEK        Kind = "disable-kek"         // a superseded KEK
	KEKDisabled       Kind = "kek-disabled"        // a disabling that was begun happened
	KEKDisableAborted Kind = "kek-disable-aborted" // a disabling that was begun did not happen
)

// Kinds lists every kind that changes something, for metrics.
func Kinds() []Kind {
	return []Kind{
		Hold, Reserve, Promote, ReserveSpare, DiscardSpare, Generate, Abandon, Pin, Import, Land, Alias, Void, Prove,
		Finish, Disable, DisableDone, DisableAborted, DisableLate, Enable, EnableDone, EnableAborted, Repoint,
		RepointDone, RepointFailed, RepointMet, RepointLapsed, ReplaceDone, EndConsent, Sweep,
		CreateKEK, KEKMade, KEKVoid, UseKEK, DisableKEK, KEKDisabled, KEKDisableAborted,
	}
}

// Step is what Next decides: one idempotent action. Only the fields that the kind needs are set.
type Step struct {
	Kind       Kind
	Why        string // in words
	Generation int
	Vault      string // URL
	Cause      key.Cause
	Attempt    key.ID
	Version    string
	ID         key.ID // CKA_ID, of steps in the HSM and of a hold for what is there
	Hold       *key.Hold
	Until      time.Time // of Idle and Wait; zero: until something happens
	Trigger    Trigger   // of Reserve, Promote and CreateKEK
	// AsksUsers, of Idle and Wait: only another look at those who use the key can show that the wait is over.
	AsksUsers bool
	Consumer  string // resource id, of Repoint
	From      string // the version that it is set to, of Repoint; "": it follows
	// NewKey and NewVault (URL), of Repoint: the key that replaces this one; "": the key stays the same.
	NewKey, NewVault string
}

// Acts reports whether the step changes anything.
func (s Step) Acts() bool { return s.Kind != Idle && s.Kind != Wait && s.Kind != Look }

// Describe names the step for people, such as "import generation 3 in vault contoso-weu".
func (s Step) Describe(p key.Policy) string {
	text := string(s.Kind)
	if s.Generation > 0 {
		text += fmt.Sprintf(" generation %d", s.Generation)
	}
	if s.Consumer != "" {
		text += " consumer " + service.NameOf(s.Consumer)
	}
	if v, ok := p.Vault(s.Vault); ok {
		text += " in vault " + v.Name
	}
	if s.NewKey != "" {
		text += " to key " + s.NewKey
	}
	return text
}
