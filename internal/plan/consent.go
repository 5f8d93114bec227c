package plan

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// Retiring is a version that a retire rule is to disable.
type Retiring struct {
	record.Retirable
	Due time.Time // the rule allows it from then on
	At  time.Time // when its turn comes: after those before it, with a pause between two
}

// Retirements lists the superseded versions that a rule is to disable in the policy's vaults, in the order in which
// keyd disables them.
func Retirements(now time.Time, p key.Policy, rule key.RetireRule, r *record.Record) (list []Retiring) {
	if rule.Never() || p.Retained {
		return nil
	}
	for _, v := range p.Vaults {
		for _, x := range r.Retirable(v.URL) {
			list = append(list, Retiring{Retirable: x, Due: x.Since.Add(rule.DisableAfter)})
		}
	}
	slices.SortStableFunc(list, func(a, b Retiring) int {
		return cmp.Compare(a.Generation.Number, b.Generation.Number)
	})
	turn := now
	if from, _ := r.PauseFrom(); !from.Here.IsZero() {
		turn = later(turn, from.Here.Add(rule.Between()))
	}
	for i := range list {
		list[i].At = later(turn, list[i].Due)
		turn = list[i].At.Add(rule.Between())
	}
	return list
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// RetireDigest identifies a rule of a key together with the versions that it is to disable and their dates. A consent
// names it.
func RetireDigest(name string, rule key.RetireRule, list []Retiring) string {
	type version struct {
		Vault, Version string
		Generation     int
		Due            time.Time
	}
	shown := struct {
		Key      string
		Rule     key.RetireRule
		Versions []version
	}{Key: name, Rule: rule}
	for _, x := range list {
		shown.Versions = append(shown.Versions, version{x.Vault, x.Version, x.Generation.Number, x.Due.UTC()})
	}
	text, err := json.Marshal(shown)
	if err != nil { // strings, numbers and times of this age always encode
		panic(fmt.Sprintf("encode the versions to retire: %v", err))
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256(text))
}

// consentEnded ends the consent to a retire rule that is no longer the configured one. A rule that comes back needs
// consent again.
func consentEnded(in Input) (Step, bool) {
	rule, replaced := in.Policy.Retire, in.Record.Replacement
	other := in.Record.Consent != nil && !in.Record.ConsentsTo(rule) ||
		replaced.Disabling() && replaced.Done.IsZero() && replaced.Consent.Rule != ReplaceRule(in.Policy)
	if !other {
		return Step{}, false
	}
	return Step{Kind: EndConsent, Why: "the retire rule is another one than the operator consented to"}, true
}

// EnableTries is how long keyd tries to enable a version for an operator. Nothing else happens to the key meanwhile.
const EnableTries = 10 * time.Minute

// enabling enables a version that an operator asked for, or settles what came of that.
func enabling(in Input) (Step, bool) {
	for _, e := range in.Record.Enabling {
		if s, ok := in.enablingOf(e); ok {
			return s, true
		}
	}
	return Step{}, false
}

// enablingOf tries for a while. After that the vault's answer settles what came of it, as of a call whose answer was
// lost: the version shows as enabled, or once such a call's time is over it was not. A vault that cannot be seen holds
// up nothing else.
func (in Input) enablingOf(e record.Enabling) (Step, bool) {
	at := in.Record.Placement(e.Attempt)
	s := Step{Kind: Enable, Generation: at.Generation.Number, Vault: at.Vault, Attempt: e.Attempt, Version: e.Version,
		Why: e.Reason}
	vault, configured := in.Policy.Vault(at.Vault)
	switch {
	case !configured:
		s.Kind, s.Why = EnableAborted, "the vault is no longer one of the key's"
		return s, true
	case near(in.Now, e.At, EnableTries):
		return s, true
	case in.Seen == nil:
		return unseen(in)
	}
	v := visible{vault, in.shown(vault)}
	x, listed := v.seen.Version(e.Version)
	switch {
	case v.seen.Err != nil:
		return Step{}, false
	case listed && x.Enabled:
		s.Kind, s.Why = EnableDone, "an operator asked for it, and now it shows"
	case near(v.seen.Begun, e.At, EnableTries+StepTimeout+v.Kind.SettleTime()+key.MaxSkew):
		// A late call may still do it, or one by another host, whose clock differs.
		return Step{}, false
	default:
		s.Kind, s.Why = EnableAborted, "the vault did not do it in time"
	}
	return s, true
}
