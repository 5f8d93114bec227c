package record

import (
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Consent is an operator's consent to a key's retire rule. It covers the versions that it lists, and those that are
// superseded later. The consent to disable a replaced key is of the same form: the rule says for how long evidence must
// show that nobody uses the versions.
type Consent struct {
	Rule key.RetireRule `json:"rule"`
	// Digest is of the rule and of the versions with their dates, as the operator saw them.
	Digest   string    `json:"digest"`
	Versions []string  `json:"versions,omitempty"`
	At       time.Time `json:"at"`
	By       string    `json:"by"`
	Reason   string    `json:"reason"`
}

// ConsentsTo reports whether an operator consented to this very rule, and nothing has ended the consent since.
func (r *Record) ConsentsTo(rule key.RetireRule) bool {
	return r.Consent != nil && r.Consent.Rule == rule
}

// Covers reports whether the consent covers a version: it lists the version, or the version was superseded later.
func (c *Consent) Covers(v Retirable) bool {
	return slices.Contains(c.Versions, v.Version) || v.Since.After(c.At)
}

// HasConsent reports whether an operator consented to disable anything of the key, by the retire rule or because it is
// replaced.
func (r *Record) HasConsent() bool { return r.Consent != nil || r.Replacement.Disabling() }

// EndConsent ends every consent to disable versions of the key, and reports whether there was one.
func (r *Record) EndConsent() (had bool) {
	had = r.HasConsent()
	r.Consent = nil
	r.endDisabling()
	return had
}

// Doubt records that the record lacks changes, and nobody knows which: a consent may stand that had ended,
// so every consent ends, and a disabling may be lost, so the pause before the next one begins anew. It reports whether
// there was a consent.
func (r *Record) Doubt(now time.Time) (hadConsent bool) {
	r.Doubted = Moment{Here: now}
	return r.EndConsent()
}

func (c *Consent) clone() *Consent {
	if c == nil {
		return nil
	}
	copied := *c
	copied.Versions = slices.Clone(c.Versions)
	return &copied
}
