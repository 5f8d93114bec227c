package plan

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// StepTimeout limits one step: a generation, or a look and an import.
const StepTimeout = 5 * time.Minute

// disablingTries is how long keyd tries to disable one version. After that the vault's answer settles what came of it.
const disablingTries = 10 * time.Minute

// retirement disables one version, once its rule is met and nothing forbids it. See retirable.
func retirement(in Input) (Step, bool) {
	r, waits := in.retirable()
	if r == nil || waits.why != "" {
		return Step{}, false
	}
	return Step{Kind: Disable, Generation: r.Generation.Number, Vault: r.Vault, Attempt: r.Attempt,
		Version: r.Version, Why: fmt.Sprintf("deactivated since %s, and retire says disable_after %s",
			r.Since.Format(time.DateOnly), in.Policy.Retire.DisableAfter)}, true
}

// retirementWaits says what the next disabling waits for.
func retirementWaits(in Input) (Step, bool) {
	r, waits := in.retirable()
	if r == nil || waits.why == "" {
		return Step{}, false
	}
	_, _, next := Due(in)
	return Step{Kind: Idle, Generation: r.Generation.Number, Vault: r.Vault, Version: r.Version,
		Until: sooner(waits.until, next), AsksUsers: waits.look,
		Why: fmt.Sprintf("version %s is to be disabled, and waits: %s", r.Version, waits.why)}, true
}

// waiting is what a disabling waits for.
type waiting struct {
	why   string    // "": for nothing
	until time.Time // when that is over, or may be; zero: nobody knows
	look  bool      // only another look at those who use the key can show that it is over
}

// retirable is the version that keyd disables next by the retire rule, and what that still waits for.
//
// keyd retires a key version by version: all of the oldest generation, vault by vault, before the next generation.
// What waits in one vault does not hold up the same generation in another. What was begun, and may have been cut short,
// goes on before another begins.
func (in Input) retirable() (*Retiring, waiting) {
	list := Retirements(in.Now, in.Policy, in.Policy.Retire, in.Record)
	if len(list) == 0 {
		return nil, waiting{}
	}
	first, open := list[0], in.Record.OpenDisabling()
	switch v, x, found := in.disabledByOthers(); {
	case open.Found(): // it goes on before another begins
		list = slices.DeleteFunc(list, func(r Retiring) bool {
			return r.Attempt != open.Attempt || !slices.Contains(open.BeingDisabled(), r.Version) ||
				!near(in.Now, in.Record.LastDisabling.Here, disablingTries)
		})
		if len(list) == 0 {
			return &first, waiting{why: fmt.Sprintf("keyd does not know yet whether vault %s disabled version %s",
				open.VaultName, open.Disables)}
		}
	case found: // keyd records as its own what the rule covers, before it goes on
		list = slices.DeleteFunc(list, func(r Retiring) bool { return r.Version != x })
		if len(list) == 0 {
			return &first, waiting{why: fmt.Sprintf("somebody other than keyd disabled version %s in vault %s; to "+
				"enable it: keyd enable %s %s --reason …", x, v.Name, in.Policy.Key, x)}
		}
	default:
		list = slices.DeleteFunc(list, func(x Retiring) bool {
			return x.Generation.Number > first.Generation.Number
		})
	}
	// One that keyd has tried goes behind those that it has not: a vault may refuse it for ever.
	slices.SortStableFunc(list, func(a, b Retiring) int {
		return a.DisableBegun.Compare(b.DisableBegun)
	})
	if why, until := in.forbidsAny(); why != "" {
		return &list[0], waiting{why: why, until: until}
	}
	return in.firstAllowed(list)
}

// firstAllowed is the first version that nothing forbids to disable, or the first one with what it waits for.
func (in Input) firstAllowed(list []Retiring) (*Retiring, waiting) {
	var first waiting
	for i := range list {
		waits := in.forbids(list[i])
		if waits.why == "" {
			return &list[i], waits
		}
		if i == 0 {
			first = waits
		}
		first.until = sooner(first.until, waits.until)
		first.look = first.look || waits.look
	}
	return &list[0], first
}

// forbidsAny says what keeps keyd from disabling any version of the key. The later functions say what keeps it from
// disabling one version.
func (in Input) forbidsAny() (why string, until time.Time) {
	name := in.Policy.Key
	if !in.Record.ConsentsTo(in.Policy.Retire) {
		return "an operator must consent to the retire rule: keyd retire " + name, until
	}
	if left := in.Record.Unlisted(in.Policy); len(left) > 0 {
		return fmt.Sprintf("the replacement of key %s sets consumer %s to this key, and the configuration does not "+
			"name it here: write its id under consumers of %s, then: keyd reload", left[0].From, left[0].Consumer,
			name), until
	}
	if why, at := in.pause(); why != "" {
		return why, at
	}
	if err := in.Seen.HSM.Err; err != nil {
		return fmt.Sprintf("the HSM cannot be used: %v", err), until
	}
	return "", until
}

// pause says what the pause between two disablings waits for, by the local clock. One that was begun goes on.
func (in Input) pause() (why string, until time.Time) {
	from, doubted := in.Record.PauseFrom()
	until = from.Here.Add(in.Policy.Retire.Between())
	switch {
	case from.Here.IsZero(), in.Record.OpenDisabling().Found(), !in.Now.Before(until):
		return "", time.Time{}
	case doubted:
		return "the record lacked changes until " + date(from.Here) + ", and a disabling may be among them", until
	}
	return "keyd disabled another version at " + date(from.Here), until
}

// disabledByOthers finds a version of keyd's own that a vault shows disabled and that keyd did not disable.
func (in Input) disabledByOthers() (v visible, version string, found bool) {
	for _, v := range in.vaults() {
		ours := in.Record.Versions(v.URL)
		for _, x := range v.seen.Versions {
			at := ours[x.ID]
			if !x.Enabled && at.Found() && slices.Contains(at.Enabled(), x.ID) && at.Generation.Compromised.IsZero() {
				return v, x.ID, true
			}
		}
	}
	return v, "", false
}

// forbids says what keeps keyd from disabling one version. Those who use the key come last: keyd asks Azure about them
// only when nothing else is in the way.
func (in Input) forbids(r Retiring) waiting {
	vault, _ := in.Policy.Vault(r.Vault)
	v := visible{vault, in.shown(vault)}
	for _, ask := range []func(Retiring, visible) (string, time.Time){in.forbidsNow, in.forbidsIn} {
		if why, until := ask(r, v); why != "" {
			return waiting{why: why, until: until}
		}
	}
	return in.usersForbid(r, v)
}

// forbidsNow says whether the rule's time is over, by every clock.
func (in Input) forbidsNow(r Retiring, v visible) (why string, until time.Time) {
	if !in.Record.Consent.Covers(r.Retirable) {
		return "the consent to the retire rule does not list the version: keyd retire " + in.Policy.Key, until
	}
	switch {
	case v.seen.Err != nil:
		return fmt.Sprintf("vault %s: %v", v.Name, v.seen.Err), until
	case !v.seen.SkewSeen || v.seen.Skew.Abs() > key.MaxSkew:
		// A local clock that runs ahead must not make keyd disable anything early.
		return fmt.Sprintf("the clock of vault %s is not known, or differs from the local one by more than %s", v.Name,
			key.MaxSkew), until
	}
	now := record.Moment{Here: in.Now, There: v.seen.Clock(in.Now)}
	from, _ := in.Record.PauseFrom()
	due := record.Moment{Here: r.Since, There: r.Since}
	switch {
	case !due.Passed(now, in.Policy.Retire.DisableAfter):
		return "the retire rule allows it at " + date(r.Due), r.Due
	case r.State != key.Disabling && !from.Passed(now, in.Policy.Retire.Between()):
		return fmt.Sprintf("by the clock of vault %s, keyd disabled another version less than %s ago", v.Name,
			in.Policy.Retire.Between()), until
	}
	return "", until
}

// forbidsIn says what in a vault forbids disabling older versions: consumers may have to go back to them. Whether the
// newest version can be proven in this moment, keyd tries only when nothing else forbids it: see Stale.
func (in Input) forbidsIn(_ Retiring, v visible) (why string, until time.Time) {
	last := in.Record.NewestIn(v.URL)
	switch {
	case !last.Found() || last.State != key.Proven || !last.Generation.Holds(v.URL, v.seen.Newest):
		return fmt.Sprintf("the newest version in vault %s is not the one that keyd placed there last and proved",
			v.Name), until
	case !last.Generation.LostInHSM.IsZero():
		return fmt.Sprintf("the HSM has lost generation %d, the newest in vault %s: keyd rotate --now %s --reason …",
			last.Generation.Number, v.Name, in.Policy.Key), until
	case !in.newestStands(v, last.Generation):
		return fmt.Sprintf("the newest version %s in vault %s is disabled, expired or of other material",
			v.seen.Newest, v.Name), until
	}
	if p := v.seen.Proof; in.provenNow(v.seen) && p.Err != nil {
		return fmt.Sprintf("the newest version %s in vault %s was not proven at %s: %v", p.Version, v.Name, date(p.At),
			p.Err), p.At.Add(in.recently() + time.Second)
	}
	return "", until
}

// provenNow reports whether keyd has just tried to prove the newest version of a vault.
func (in Input) provenNow(v record.VaultSeen) bool {
	return v.Proof.Version == v.Newest && in.recent(v.Proof.At)
}

// newestStands reports whether the vault shows its newest version as enabled, not expired and, if it shows the
// material, with that of its generation.
func (in Input) newestStands(v visible, g *record.Generation) bool {
	x, listed := v.seen.Version(v.seen.Newest)
	expired := !x.Expires.IsZero() && !in.Now.Before(x.Expires)
	match := v.seen.Material.Of(v.seen.Newest).Matches(g.Fingerprint)
	return listed && x.Enabled && !expired && match != key.MatchNo
}

// openDisabling settles a disabling that was begun and may have been cut short: it happened, as the vault shows, or
// once its time is over it did not. Where only some of the versions are disabled by then, those are recorded.
func openDisabling(in Input) (Step, bool) {
	for _, v := range in.vaults() {
		for _, d := range in.Record.Disablings(v.URL) {
			step := Step{Generation: d.Generation.Number, Vault: v.URL, Attempt: d.Attempt,
				Version: cmp.Or(d.Disables, d.Version)}
			enabled, disabled := v.seen.Count(d.Versions)
			over := !mayBeDisabling(v, *d.Placement)
			switch {
			case disabled > 0 && (enabled == 0 || over):
				step.Kind, step.Why = DisableDone, "it was begun, and now shows"
				return step, true
			case over:
				step.Kind, step.Why = DisableAborted, "it was begun, and its time is over"
				return step, true
			}
		}
	}
	return Step{}, false
}

// mayBeDisabling reports whether the outcome of a disabling may still appear, by the vault's clock: the call may be
// sent for as long as a step takes. Without the vault's clock, that of the host that began it may differ from ours.
func mayBeDisabling(v visible, p record.Placement) bool {
	open := StepTimeout + v.Kind.SettleTime()
	if !v.seen.SkewSeen {
		open += key.MaxSkew
	}
	return near(v.seen.There(v.seen.Begun), p.DisableBegun, open)
}

// near reports whether two times are less than d apart, in either order: somebody may have put a clock back a little
// between them.
func near(a, b time.Time, d time.Duration) bool { return a.Sub(b).Abs() < d }

// RetirementWaits says what the next disabling waits for; "" if nothing is to be disabled, or nothing forbids it.
func RetirementWaits(in Input) string {
	_, waits := in.retirable()
	return waits.why
}
