package rotate_test

import (
	"slices"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
)

func TestRetireDisablesOnlyWhatItsRuleAllows(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	p = w.retireAfter(p, 48*time.Hour)
	rotateTwice(w, p) // generation 2 supersedes 1
	w.now = w.now.Add(20 * time.Hour)
	w.settle(p)
	if d := w.vault[weu.URL].disabled; len(d) != 0 {
		t.Fatalf("disabled %v before the rule allows it", d)
	}
	for range 3 {
		w.now = w.now.Add(25 * time.Hour)
		w.settle(p)
	}
	versions := w.vault[weu.URL].key(p.Key).versions
	if versions[0].Enabled || !versions[len(versions)-1].Enabled {
		t.Errorf("first enabled %v, newest enabled %v; want the first disabled only", versions[0].Enabled,
			versions[len(versions)-1].Enabled)
	}
	rec := w.record(p.Key)
	if rec.Generations[0].State() != key.Suspended {
		t.Errorf("the first generation is %s, want suspended", rec.Generations[0].State())
	}
}

// The disk refuses the result. When the disk works again, the rule is gone.
func TestADisablingThatHappenedIsRecordedAlthoughItsRuleWasWithdrawn(t *testing.T) {
	w, r, p := rotatedOnly(t, weu)
	p = w.retireAfter(p, time.Hour)
	w.now = w.now.Add(3 * time.Hour)
	struck := w.strikeOnce("store.Save disabled", failBefore)
	w.stepUntil(p, func() bool { return *struck })
	p.Retire = key.RetireRule{}
	if got := drifts(p, w.record(p.Key), survey(r, t.Context(), p, w.record(p.Key))); len(got) > 0 {
		t.Errorf("before its outcome is recorded, drift %v", got)
	}
	w.settle(p)
	rec := w.record(p.Key)
	if at := rec.Generations[0].Placements[0]; at.State != key.Disabled || !at.DisableBegun.IsZero() {
		t.Errorf("the placement is %s, begun %s\n%s", at.State, at.DisableBegun, w.story())
	}
	if n := w.saved("disabled"); n != 1 {
		t.Errorf("%d entries record it, want 1", n)
	}
	if got := w.drifts(r, p); len(got) > 0 {
		t.Errorf("drift %v", got)
	}
	if d := w.vault[weu.URL].disabled; len(d) != 1 {
		t.Errorf("disabled %v, want one version, once", d)
	}
}

// Otherwise keyd would take a later disabling by somebody else for its own.
func TestADisablingThatDidNotHappenIsForgottenWithItsRule(t *testing.T) {
	w, r, p := rotatedOnly(t, weu)
	p = w.retireAfter(p, time.Hour)
	w.now = w.now.Add(3 * time.Hour)
	w.vault[weu.URL].forbid = "Disable"
	w.stepUntil(p, func() bool { return w.saved("disabling intended") > 0 })
	w.vault[weu.URL].forbid = ""
	p.Retire = key.RetireRule{}
	if w.settle(p); w.saved("disabling did not happen") > 0 {
		t.Error("keyd says that it did not happen, and it still may")
	}
	w.now = w.now.Add(8 * time.Minute)
	w.settle(p)
	if n := w.saved("disabling did not happen"); n != 1 {
		t.Fatalf("%d entries record that it did not happen, want 1\n%s", n, w.story())
	}
	first := w.vault[weu.URL].key(p.Key).versions[0]
	if !first.Enabled {
		t.Error("it was disabled all the same")
	}
	first.Enabled = false // by somebody
	w.now = w.now.Add(8 * time.Hour)
	if got := w.drifts(r, p); !slices.Contains(got, plan.DriftDisabled) {
		t.Errorf("drift %v, want %s", got, plan.DriftDisabled)
	}
}

// A version and its duplicate: consumers may name either, so keyd disables one, and the other a day later.
func TestOneVersionOfOneMaterialIsDisabledAfterTheOther(t *testing.T) {
	w, _, p := rotatedOnly(t, weu)
	first := w.hsm.pairs[w.record(p.Key).Generations[0].ID]
	w.now = w.now.Add(time.Hour)
	w.vault[weu.URL].add(p.Key, first[0].private, nil) // lands late: an alias
	w.settle(p)
	p = w.retireAfter(p, time.Hour)
	w.now = w.now.Add(3 * time.Hour)
	w.settle(p)
	if at := w.record(p.Key).Generations[0].Placements[0]; at.State != key.Superseded ||
		len(w.vault[weu.URL].disabled) != 1 {
		t.Errorf("first, %v is disabled, and the placement is %s\n%s", w.vault[weu.URL].disabled, at.State, w.story())
	}
	w.now = w.now.Add(24 * time.Hour)
	w.settle(p)
	if at := w.record(p.Key).Generations[0].Placements[0]; at.State != key.Disabled ||
		w.saved("disabled") != 2 || len(w.vault[weu.URL].disabled) != 2 {
		t.Errorf("in the end the placement is %s, %d entries record it, and %v is disabled\n%s", at.State,
			w.saved("disabled"), w.vault[weu.URL].disabled, w.story())
	}
	if got := w.drifts(w.rotator(), p); len(got) > 0 {
		t.Errorf("drift %v", got)
	}
}

// The call may take as long as a step, and somebody may set a clock back a little.
func TestKeydDoesNotAbortADisablingUnderWay(t *testing.T) {
	for name, shift := range map[string]time.Duration{"a long call": 5 * time.Minute,
		"a clock put back": -10 * time.Second} {
		w, _, p := rotatedOnly(t, weu)
		p = w.retireAfter(p, time.Hour)
		w.now = w.now.Add(3 * time.Hour)
		struck := false
		w.strike = func(_ int, call string) fault {
			if call != "weu.Disable" || struck {
				return none
			}
			struck, w.now = true, w.now.Add(shift)
			return failBeforeAmbiguous
		}
		w.stepUntil(p, func() bool { return struck })
		p.Retire = key.RetireRule{}
		for range 4 {
			_, _ = w.step(w.rotator(), p)
		}
		if w.saved("disabling did not happen") > 0 {
			t.Errorf("%s: it is said not to have happened, and may still", name)
		}
	}
}

func TestAVaultThatRefusesToDisableDoesNotBlockOthers(t *testing.T) {
	w, r, p := rotatedOnly(t, weu, mhsm)
	p = w.retireAfter(p, time.Hour)
	w.vault[weu.URL].forbid = "Disable"
	for range 26 * 12 {
		w.now = w.now.Add(5 * time.Minute)
		_, _ = w.step(r, p)
	}
	if d := w.vault[mhsm.URL].disabled; len(d) != 1 {
		t.Errorf("disabled %v in the other vault, want one version\n%s", d, w.story())
	}
}

// A disabling without a known result hides what others do for minutes only.
func TestADisablingBySomebodyElseWhileAKeyIsHeldIsDrift(t *testing.T) {
	w, r, p := rotatedOnly(t, weu)
	p = w.retireAfter(p, time.Hour)
	w.now = w.now.Add(3 * time.Hour)
	struck := w.strikeOnce("weu.Disable", failBefore)
	w.stepUntil(p, func() bool { return *struck })
	p.Retire = key.RetireRule{}
	if err := r.Pause(t.Context(), p.Key, "uid 1 (alice)", "audit"); err != nil {
		t.Fatal(err)
	}
	w.vault[weu.URL].key(p.Key).versions[0].Enabled = false
	if got := w.drifts(r, p); !slices.Contains(got, plan.DriftDisabled) {
		t.Errorf("drift %v, want %s", got, plan.DriftDisabled)
	}
}

// saved counts the audit entries with this event.
func (w *world) saved(event chain.Event) (n int) {
	for _, e := range w.store.entries {
		if e.Event == event {
			n++
		}
	}
	return n
}
