package rotate_test

import (
	"slices"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/observe"
	"github.com/keyd-project/keyd/internal/rotate"
)

// keyd leaves a vault that does not answer alone for a while. A clock that is changed meanwhile must not extend that
// time.
func TestKeydStillAsksAVaultAfterAClockChangeDuringALook(t *testing.T) {
	for name, turn := range map[string]time.Duration{"and stays ahead": 0, "and is put back": -72 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			w, r, p := rotatedOnly(t, weu)
			w.strike = func(_ int, call string) fault {
				if call != "weu.Versions" {
					return none
				}
				w.now = w.now.Add(72 * time.Hour)
				return failBefore
			}
			if _, err := w.step(r, p); err != nil {
				t.Fatal(err)
			}
			w.strike, w.calls = nil, nil
			w.now = w.now.Add(turn + 3*time.Hour)
			if _, err := w.step(r, p); err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(w.calls, "weu.Versions") {
				t.Errorf("the vault was not asked again: %v", w.calls)
			}
		})
	}
}

// A vault's clock was ahead and is then corrected, so the new version looks older than the one before it.
func TestAVersionMadeAfterTheVaultsClockWasPutBackIsTheNewest(t *testing.T) {
	for name, lost := range map[string]bool{"and its import is answered": false, "and the answer is lost": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, weu)
			p := policy(weu)
			w.vault[weu.URL].skew = 4 * time.Minute
			w.settle(p)
			w.vault[weu.URL].skew = 0
			w.now = w.now.Add(time.Minute)
			wanted := rotate.Wanted{Actor: "uid 0 (root)", Reason: "soon after"}
			if _, _, err := w.rotator().Request(t.Context(), p, wanted); err != nil {
				t.Fatal(err)
			}
			if lost {
				w.strikeOnce("weu.Import", failAfter)
			}
			w.settle(p)
			rec := w.record(p.Key)
			if n := len(rec.Generations); n != 2 || rec.Latest().Finished.IsZero() {
				t.Fatalf("%d generations, the latest finished %v\n%s", n, rec.Latest().Finished, w.story())
			}
			if n := w.vault[weu.URL].imports; n != 2 {
				t.Errorf("%d imports, want 2", n)
			}
		})
	}
}

// setDuringALook sets the local clock once, after keyd has compared it with the vault's.
func (w *world) setDuringALook(v *modelVault, by time.Duration) {
	w.strike = func(_ int, call string) fault {
		if call == "weu.NativeRotation" {
			w.now, v.skew, w.strike = w.now.Add(by), v.skew-by, nil
		}
		return none
	}
}

func TestAClockSetDuringALookRetiresNothing(t *testing.T) {
	w, r, p := rotatedOnly(t, weu)
	p = w.retireAfter(p, 30*24*time.Hour)
	v := w.vault[weu.URL]
	w.now = w.now.Add(25 * time.Hour)
	w.setDuringALook(v, 40*24*time.Hour)
	if _, err := w.step(r, p); err != nil || w.strike != nil {
		t.Fatal(err, "the clock was set:", w.strike == nil)
	}
	w.settle(p)
	if len(v.disabled) != 0 {
		t.Errorf("disabled %v", v.disabled)
	}
}

func TestAClockSetDuringALookGivesNoExpiryDate(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := expiring(weu)
	v := w.vault[weu.URL]
	w.settle(p)
	w.now = w.now.Add(25 * time.Hour)
	w.stepUntil(p, func() bool {
		rec := w.record(p.Key)
		g := rec.Latest()
		return g.Number == 2 && g.Fingerprint != ""
	})
	w.setDuringALook(v, -90*24*time.Hour)
	if _, err := w.step(w.rotator(), p); err != nil {
		t.Fatal(err)
	}
	if w.strike != nil {
		t.Fatal("the clock was not set")
	}
	w.settle(p)
	versions := v.key(p.Key).versions
	if newest := versions[len(versions)-1]; len(versions) != 2 || !newest.Expires.After(w.now.Add(v.skew)) {
		t.Errorf("%d versions, the newest expires %v, and it is %v", len(versions), newest.Expires, w.now.Add(v.skew))
	}
}

// A monotonic reading would hide that somebody set the clock.
func TestAnObservationAgesByTheWallClock(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	r := w.rotator()
	r.Clock, r.Observer.(*observe.Observer).Clock = time.Now, time.Now
	if _, err := w.step(r, p); err != nil {
		t.Fatal(err)
	}
	if at := r.Observer.Last(p.Key).At; at != at.Round(0) {
		t.Errorf("the look was taken at %v", at)
	}
}

// A local clock that runs ahead may make the schedule due, and no vault's clock contradicts it.
func TestNoScheduledRotationBeginsWhileNoVaultGivesTheTime(t *testing.T) {
	w := newWorld(t, 1, weu, mhsm)
	p := policy(weu, mhsm)
	w.settle(p)
	r := w.rotator()
	w.now = w.now.Add(25 * time.Hour)
	w.vault[weu.URL].forbid, w.vault[mhsm.URL].forbid = "Newest", "Newest"
	w.steps(r, p, 10, time.Minute)
	if n := len(w.record(p.Key).Generations); n != 1 {
		t.Fatalf("%d generations while no vault could be seen", n)
	}
	w.vault[mhsm.URL].forbid = ""
	w.steps(r, p, 10, time.Minute)
	if n := len(w.record(p.Key).Generations); n != 2 {
		t.Errorf("%d generations when one vault could be seen", n)
	}
}

// A clock that ran ahead must not use up the budget of later days.
func TestTheBudgetOfADayIsCountedByTheVaultsClock(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	p.Budget = 1
	w.settle(p)
	w.now = w.now.Add(25 * time.Hour)
	ahead := 72 * time.Hour
	w.now, w.vault[weu.URL].skew = w.now.Add(ahead), -ahead
	w.now = w.now.Add(24 * time.Hour)
	request(t, w, p, rotate.Wanted{Reason: "by hand"})
	w.steps(w.rotator(), p, 10, time.Minute)
	w.now, w.vault[weu.URL].skew = w.now.Add(-ahead+25*time.Hour), 0
	w.steps(w.rotator(), p, 10, time.Minute)
	w.checkDone(p, 3, 0)
}

// The record has the deadline before the import is sent.
func TestAnImportEndsAtItsRecordedDeadlineHoweverSlowTheDiskIs(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	w.strike = func(_ int, call string) fault {
		if call == "store.Save import intended" {
			w.now = w.now.Add(40 * time.Second)
		}
		return none
	}
	w.settle(p)
	if d := w.vault[weu.URL].importLimit; d <= 0 || d > 20*time.Second {
		t.Errorf("the import could take %v, 40 s into its minute", d)
	}
}

// steps makes n steps with a pause between them.
func (w *world) steps(r *rotate.Rotator, p key.Policy, n int, apart time.Duration) {
	for range n {
		_, _ = w.step(r, p)
		w.now = w.now.Add(apart)
	}
}

// The clock was days ahead when the import was recorded.
func TestAClockThatWasAheadDoesNotPutOffARepair(t *testing.T) {
	w, _, p := rotatedOnly(t, weu)
	request(t, w, p, rotate.Wanted{Reason: "drill"})
	w.now, w.vault[weu.URL].skew = w.now.Add(72*time.Hour), -72*time.Hour
	w.settle(p)
	w.now, w.vault[weu.URL].skew = w.now.Add(-71*time.Hour), 0
	w.vault[weu.URL].addForeign(p.Key)
	w.settle(p) // holds
	w.consent(p)
	w.settle(p)
	versions := w.vault[weu.URL].key(p.Key).versions
	if versions[len(versions)-1].foreign {
		t.Errorf("the newest is still the foreign one\n%s", w.story())
	}
}
