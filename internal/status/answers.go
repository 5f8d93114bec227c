package status

import (
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Checked is the answer of `keyd check`.
type Checked struct {
	Summary map[CheckResult]int `json:"summary"` // how many checks had each result
	Checks  []Check             `json:"checks"`
}

// Summed counts the results of checks.
func Summed(checks []Check) Checked {
	c := Checked{Summary: map[CheckResult]int{CheckOK: 0, CheckWarning: 0, CheckFailed: 0}, Checks: checks}
	for _, one := range checks {
		c.Summary[one.Result]++
	}
	return c
}

// Check is one line of `keyd check`.
type Check struct {
	Area    string      `json:"area"`    // config, store, hsm, identity, vault, clock, role, key, consumer
	Subject string      `json:"subject"` // which key, vault, token or consumer
	Name    string      `json:"name"`    // what was checked
	Result  CheckResult `json:"result"`
	Detail  string      `json:"detail,omitempty"`
	Remedy  string      `json:"remedy,omitempty"`
}

// CheckResult is how one check ended.
type CheckResult string

// The results of a check. Any CheckFailed makes `keyd check` exit 1.
const (
	CheckOK      CheckResult = "ok"
	CheckWarning CheckResult = "warning"
	CheckFailed  CheckResult = "failed"
	// CheckSkipped: another line says what keeps keyd from checking this.
	CheckSkipped CheckResult = "skipped"
)

// Planned is what the loop would do next with one key.
type Planned struct {
	Key        string    `json:"key"`
	Step       string    `json:"step"`            // "idle", "held", or the step's name
	Why        string    `json:"why"`             // in words
	Vault      string    `json:"vault,omitempty"` // nickname
	Generation int       `json:"generation,omitempty"`
	At         time.Time `json:"at,omitzero"` // when the key is due next
}

// Explanation is what each of the plan's rules says about one key now, in the order in which Next asks them.
type Explanation struct {
	Rules []RuleAnswer `json:"rules"`
	// Next is the result: the step of the rule that answered, or what keyd does if none does.
	Next Planned `json:"next"`
}

// RuleAnswer is what one rule says.
type RuleAnswer struct {
	Rule  string   `json:"rule"`
	Says  string   `json:"says"`           // what the rule is for, in words
	Asked bool     `json:"asked"`          // false: a rule before it answered
	Step  *Planned `json:"step,omitempty"` // absent: the rule has nothing to say
}

// Adoption is what `keyd adopt` found for one key, and what it would record.
type Adoption struct {
	Key string `json:"key"`
	// Rebuild: the HSM or a vault shows generations that the record lacks.
	Rebuild []AdoptedGeneration `json:"rebuild"`
	// Pairs lists every pair in the HSM that the consent accepts, and as what.
	Pairs []AdoptedPair `json:"pairs,omitzero"`
	// Foreign lists, by vault nickname, versions whose material is not in the HSM. Consent lets keyd import over
	// them.
	Foreign map[string][]string `json:"foreign,omitempty"`
	// Unknown lists what remains unknown.
	Unknown []string `json:"unknown"`
	// Gone counts what the record has and neither the HSM nor a vault shows any more. Consent gives it up; Unknown
	// names each item.
	Gone int `json:"gone,omitempty"`
	// Open counts what can be neither adopted nor counted as agreement yet: a version that a vault may only be slow
	// to show, or a vault that cannot be seen. Unknown names each item.
	Open        int    `json:"open,omitempty"`
	Consequence string `json:"consequence"` // what follows once consent is recorded
	// The consent must carry Token, so that keyd records exactly what was shown.
	Token string `json:"token"`
}

// Empty reports whether nothing needs consent.
func (a Adoption) Empty() bool {
	return len(a.Rebuild) == 0 && len(a.Foreign) == 0 && a.Gone == 0
}

// What a pair is adopted as, if it is no generation.
const (
	GivenUp   = "abandoned"
	LeftAlone = "left alone"
)

// AdoptedPair is one pair that the record lacked.
type AdoptedPair struct {
	ID          key.ID          `json:"id"`
	Label       string          `json:"label"`
	Fingerprint key.Fingerprint `json:"fingerprint,omitempty"`
	As          string          `json:"as"`                   // "generation 3", GivenUp or LeftAlone
	Unreserved  bool            `json:"unreserved,omitempty"` // nobody reserved it in this audit chain
}

// AdoptedGeneration is one generation found again.
type AdoptedGeneration struct {
	Number      int                 `json:"number"`
	ID          key.ID              `json:"id"`
	Fingerprint key.Fingerprint     `json:"fingerprint"`
	Versions    map[string][]string `json:"versions,omitempty"` // by vault nickname
}
