package plan

import (
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

const (
	// lateWithin is how long after keyd began a disabling its call may still be on the way, such as in a proxy. Who
	// disables the version later is somebody else.
	lateWithin = time.Hour
	// lateShown is how long keyd tells of a disabling that came late, unless an operator consents again before.
	lateShown = 7 * 24 * time.Hour
)

// lateDisabling undoes a disabling that keyd had given up and that the vault carried out all the same. keyd had judged
// who needs the version by what it saw before; by now somebody may need it.
func lateDisabling(in Input) (Step, bool) {
	for _, v := range in.vaults() {
		for _, at := range in.Record.GivenUp(v.URL) {
			x, listed := v.seen.Version(at.Disables)
			if listed && !x.Enabled && in.disabledLate(v, at, x) {
				return Step{Kind: DisableLate, Generation: at.Generation.Number, Vault: v.URL, Attempt: at.Attempt,
					Version: x.ID, Why: "keyd gave its disabling up, and it happened all the same"}, true
			}
		}
	}
	return Step{}, false
}

// disabledLate reports whether the vault changed a version so soon after keyd began to disable it that it was keyd's
// call. The people responsible may disable a compromised version.
func (in Input) disabledLate(v visible, at record.Placed, x key.Version) bool {
	changed := x.Updated
	if changed.IsZero() {
		changed = v.seen.There(v.seen.Begun)
	}
	return at.Generation.Compromised.IsZero() && near(changed, at.DisableBegun, lateWithin)
}

// awaitsDisabling reports whether keyd does not know what came of a disabling in a vault, or gave it up so lately that
// it may still happen.
func (in Input) awaitsDisabling(v visible) bool {
	if len(in.Record.Disablings(v.URL)) > 0 {
		return true
	}
	for _, at := range in.Record.GivenUp(v.URL) {
		if near(v.seen.There(in.Now), at.DisableBegun, lateWithin) {
			return true
		}
	}
	return false
}

// late adds a disabling that came late. It stays shown after keyd has undone it: something held a call up for minutes.
func (d drifter) late() {
	at := d.Record.LateIn(d.v.URL)
	if !at.Found() || !near(d.Seen.At, at.LateAt, lateShown) {
		return
	}
	d.add(DriftLate, fmt.Sprintf("find out what held the call up, such as a proxy or a host that stood still; then "+
		"consent to the retire rule again: keyd retire %s", d.Policy.Key),
		"%s in vault %s: a version of generation %d was disabled by a call of keyd's that it had given up. keyd saw "+
			"it at %s and enables the version again", d.Policy.Key, d.v.Name, at.Generation.Number, date(at.LateAt))
}
