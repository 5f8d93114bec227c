package plan

import (
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// StepTimeout limits one step: a generation, or a look and an import.
const StepTimeout = 5 * time.Minute

// retirement disables one version that its rule permits to disable: one that keyd has not tried yet, otherwise the
// one that it tried longest ago. It never touches the newest version, its material, or a vault where some placement
// is not resolved.
func retirement(in Input) (s Step, ok bool) {
	if in.Policy.Retire.Never() {
		return Step{}, false
	}
	var begun time.Time
	for _, v := range in.vaults() {
		if !in.mayRetire(v) {
			continue
		}
		for _, old := range in.Record.Retirable(v.URL) {
			if in.Now.Sub(old.Since) < in.Policy.Retire.DisableAfter || ok && !old.DisableBegun.Before(begun) {
				continue
			}
			begun, ok = old.DisableBegun, true
			s = Step{Kind: Disable, Generation: old.Generation.Number, Vault: v.URL, Attempt: old.Attempt,
				Version: old.Version, Why: fmt.Sprintf("deactivated since %s, and retire says disable_after %s",
					old.Since.Format(time.DateOnly), in.Policy.Retire.DisableAfter)}
		}
	}
	return s, ok
}

// mayRetire reports whether nothing in the vault forbids disabling older versions: consumers may have to go back to
// them.
func (in Input) mayRetire(v visible) bool {
	last := in.Record.NewestIn(v.URL)
	switch {
	case !last.Found() || last.State != key.Proven || !last.Generation.Holds(v.URL, v.seen.Newest):
		return false
	case !v.seen.SkewSeen || v.seen.Skew.Abs() > key.MaxSkew:
		return false // a local clock that runs ahead must not make keyd disable anything early
	}
	return in.newestStands(v, last.Generation)
}

// newestStands reports whether the vault shows its newest version as enabled, not expired and, if it shows the
// material, with that of its generation.
func (in Input) newestStands(v visible, g *record.Generation) bool {
	x, listed := v.seen.Version(v.seen.Newest)
	expired := !x.Expires.IsZero() && !in.Now.Before(x.Expires)
	match := v.seen.Material[v.seen.Newest].Matches(g.Fingerprint)
	return listed && x.Enabled && !expired && match != key.MatchNo
}

// openDisabling settles a disabling that was begun and may have been cut short: it happened, as the vault shows, or
// once its time is over it did not. Where only some of the versions are disabled by then, those are recorded.
func openDisabling(in Input) (Step, bool) {
	for _, v := range in.vaults() {
		for _, d := range in.Record.Disablings(v.URL) {
			step := Step{Generation: d.Generation.Number, Vault: v.URL, Attempt: d.Attempt, Version: d.Version}
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

// mayBeDisabling reports whether the outcome of a disabling may still appear, by the vault's clock: the call may take
// as long as a step.
func mayBeDisabling(v visible, p record.Placement) bool {
	return near(v.seen.There(v.seen.Begun), p.DisableBegun, StepTimeout+v.Kind.SettleTime())
}

// near reports whether two times are less than d apart, in either order: somebody may have put a clock back a little
// between them.
func near(a, b time.Time, d time.Duration) bool { return a.Sub(b).Abs() < d }
