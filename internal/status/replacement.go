package status

import (
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/words"
)

// Replacement is the replacing of a key by another one: what would follow from it, or how far it is.
type Replacement struct {
	Key   string `json:"key"`
	With  string `json:"with"`            // the new key
	Vault string `json:"vault,omitempty"` // nickname, where consumers go; "": each stays in its own
	// Begun is when an operator asked for it; zero: nobody did yet, and this is what would follow.
	Begun     time.Time          `json:"begun,omitzero"`
	By        string             `json:"by,omitempty"`
	Reason    string             `json:"reason,omitempty"`
	Steps     []ReplaceStep      `json:"steps"`
	Consumers []ReplacedConsumer `json:"consumers"`
	Versions  []ReplacedVersion  `json:"versions"` // of the old key, that are enabled, in the order of disabling
	// Notes are what a person should know before the first step.
	Notes []string `json:"notes,omitempty"`
	// Failed is why the last move did not happen; keyd moves no other consumer then.
	Failed string `json:"failed,omitempty"`
	// Digest is of what is consented to next: to begin, or to disable the versions.
	Digest  string   `json:"digest"`
	Consent *Consent `json:"consent,omitempty"` // to disable the versions; nil: there is none
	// MayConsent: all consumers are seen to work under the new key, so that a person may consent.
	MayConsent bool      `json:"may_consent,omitempty"`
	Waiting    string    `json:"waiting,omitempty"` // what the next disabling waits for
	Done       time.Time `json:"done,omitzero"`
}

// ReplaceStep is one step of a replacement.
type ReplaceStep struct {
	Step string `json:"step"`
	Done bool   `json:"done"`
	Left string `json:"left,omitempty"` // what is left of it
}

// ReplacedConsumer is a consumer of a key that is replaced.
type ReplacedConsumer struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Service string `json:"service"`
	// State is "to move", "by hand", "not seen", "elsewhere", "moved" (that is all that is seen) or "works".
	State string `json:"state"`
	From  string `json:"from,omitempty"` // nickname of the vault that it is set to
	To    string `json:"to,omitempty"`   // nickname of the vault where it goes, or is
	// ToURL is the URL of that vault, and Version the newest of the new key there.
	ToURL   string `json:"to_url,omitempty"`
	Version string `json:"version,omitempty"`
	// Why says what is in the way, or what shows that it works.
	Why     string `json:"why,omitempty"`
	Command string `json:"command,omitempty"` // by which a person moves it
}

// ReplacedVersion is a version of a replaced key that is enabled.
type ReplacedVersion struct {
	Vault      string `json:"vault"` // nickname
	Generation int    `json:"generation"`
	Version    string `json:"version"`
}

// Replaced is what a key's overview says of its replacement.
type Replaced struct {
	With      string    `json:"with"`
	Begun     time.Time `json:"begun"`
	Moved     int       `json:"moved"` // consumers, by keyd
	Consented bool      `json:"consented,omitempty"`
	Left      int       `json:"left"` // versions that are enabled
	Done      time.Time `json:"done,omitzero"`
}

// Words says how far it is.
func (r Replaced) Words() string {
	switch {
	case !r.Done.IsZero():
		return fmt.Sprintf("replaced by %s; its versions are disabled since %s", r.With, words.Moment(r.Done))
	case r.Consented:
		return fmt.Sprintf("replaced by %s; %s to disable once nobody can need them", r.With,
			words.Count(r.Left, "version"))
	}
	return fmt.Sprintf("being replaced by %s since %s; %s moved by keyd so far", r.With, words.Moment(r.Begun),
		words.Count(r.Moved, "consumer"))
}
