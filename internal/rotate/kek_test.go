package rotate_test

import (
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

func TestAKeyExchangeKeyThatIsNotShownYetIsNotMadeAgain(t *testing.T) {
	w := newWorld(t, 1, mhsm)
	p := policy(mhsm)
	r := w.rotator()
	for range 10 {
		rec := w.record(p.Key)
		if g := rec.Latest(); g != nil && g.Fingerprint != "" {
			break
		}
		if _, err := w.step(r, p); err != nil {
			t.Fatal(err)
		}
	}
	rec := w.record(p.Key)
	look := func(begun time.Time) plan.Kind {
		o := *r.Observer.Last(p.Key)
		kek := record.KEKSeen{Absent: true, Begun: begun}
		o.Vaults = map[string]record.VaultSeen{mhsm.URL: {Begun: w.now, KEK: kek}}
		return plan.Next(plan.Input{Now: w.now, Policy: p, Record: &rec, Seen: &o}).Kind
	}
	for begun, want := range map[time.Time]plan.Kind{
		{}:                           plan.CreateKEK,
		w.now.Add(-10 * time.Minute): plan.Wait, // a Managed HSM may still show it
		w.now.Add(-12 * time.Minute): plan.CreateKEK,
	} {
		if got := look(begun); got != want {
			t.Errorf("begun at %v: %s, want %s", begun, got, want)
		}
	}
}

// A restart, or another daemon, knows from the records what was begun for another key.
func TestAKeyExchangeKeyThatWasBegunForAnotherKeyIsNotMadeAgain(t *testing.T) {
	w := newWorld(t, 1, mhsm)
	one, two := policy(mhsm), policy(mhsm)
	two.Key = "other-cmk-key"
	w.strikeOnce("mhsm.CreateKEK", failAfter)
	w.stepUntil(one, func() bool { return !w.record(one.Key).KEKBegun[mhsm.URL].IsZero() })
	v := w.vault[mhsm.URL]
	made := v.kek
	v.kek = nil // it does not show yet
	w.steps(w.rotator(), two, 20, time.Second)
	if v.kek != nil {
		t.Fatal("a second key exchange key was made")
	}
	v.kek = made
	w.settle(two)
	if rec := w.record(two.Key); rec.Latest().Finished.IsZero() {
		t.Errorf("the other key was not made\n%s", w.story())
	}
}

// The clocks of this daemon and of the one that began it may differ, or have been set.
func TestWhenAKeyExchangeKeyWasBegunIsToldByTheVaultsClock(t *testing.T) {
	w := newWorld(t, 1, mhsm)
	p := policy(mhsm)
	v := w.vault[mhsm.URL]
	w.stepUntil(p, func() bool { rec := w.record(p.Key); g := rec.Latest(); return g != nil && g.Fingerprint != "" })
	v.skew = 2 * time.Hour // the local clock is behind
	w.strikeOnce("mhsm.CreateKEK", failBeforeAmbiguous)
	w.stepUntil(p, func() bool { return !w.record(p.Key).KEKBegun[mhsm.URL].IsZero() })
	w.now, v.skew = w.now.Add(2*time.Hour), 0
	w.steps(w.rotator(), p, 20, time.Second)
	if v.kek != nil {
		t.Error("made again while the first may come to light")
	}
	w.now = w.now.Add(12 * time.Minute)
	w.settle(p)
	w.checkDone(p, 1, 0)
}
