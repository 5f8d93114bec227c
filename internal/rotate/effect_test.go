package rotate_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/rotate"
)

// deed is an effect of a key or a vault: the event of its intent, the call that makes it, and a world in which it is
// due.
type deed struct {
	intent chain.Event
	call   string
	due    func(*testing.T) (w *world, step func(*rotate.Rotator) error)
}

func deeds() map[string]deed {
	ofKey := func(w *world, p key.Policy) (*world, func(*rotate.Rotator) error) {
		return w, func(r *rotate.Rotator) error {
			_, err := w.step(r, p)
			return err
		}
	}
	ofVault := func(w *world) (*world, func(*rotate.Rotator) error) {
		return w, func(r *rotate.Rotator) error {
			_, err := r.StepVault(leading(w.tb.Context()), vaultPolicy(weu))
			return err
		}
	}
	return map[string]deed{
		"generate": {chain.GenerationIntended, "hsm.Generate",
			func(t *testing.T) (*world, func(*rotate.Rotator) error) {
				return ofKey(newWorld(t, 1, weu), policy(weu))
			}},
		"import": {chain.ImportIntended, "weu.Import", func(t *testing.T) (*world, func(*rotate.Rotator) error) {
			return ofKey(newWorld(t, 1, weu), policy(weu))
		}},
		"wrap": {chain.ImportIntended, "hsm.WrapFor", func(t *testing.T) (*world, func(*rotate.Rotator) error) {
			return ofKey(newWorld(t, 1, weu), policy(weu))
		}},
		"destroy": {chain.DestroyIntended, "hsm.Destroy", func(t *testing.T) (*world, func(*rotate.Rotator) error) {
			w, p := newWorld(t, 1, weu), policy(weu)
			w.stepUntil(p, func() bool { return w.saved(chain.GenerationMade) > 0 })
			w.hsm.pairs[w.record(p.Key).Generations[0].ID][0].broken = true // keyd gives it up
			return ofKey(w, p)
		}},
		"disable": {chain.DisableIntended, "weu.Disable", func(t *testing.T) (*world, func(*rotate.Rotator) error) {
			w, _, p := rotatedOnly(t, weu)
			p = w.retireAfter(p, time.Hour)
			w.now = w.now.Add(3 * time.Hour)
			return ofKey(w, p)
		}},
		"repoint": {chain.RepointIntended, "azure.Repoint", func(t *testing.T) (*world, func(*rotate.Rotator) error) {
			w, p, _, _ := leftBehind(t)
			return ofKey(w, p)
		}},
		"create a KEK": {chain.KEKIntended, "weu.CreateKEK",
			func(t *testing.T) (*world, func(*rotate.Rotator) error) { return ofVault(newWorld(t, 1, weu)) }},
		"disable a KEK": {chain.KEKDisableIntended, "weu.DisableKEK",
			func(t *testing.T) (*world, func(*rotate.Rotator) error) {
				w, r, _ := askForKEK(t)
				w.hsm.pins, w.hsm.trust = []key.Fingerprint{w.print(weu)}, nil
				w.vaultSteps(r, weu, 2, 5*time.Minute)
				w.now = w.now.Add(plan.KEKNeeded(weu) + time.Hour)
				return ofVault(w)
			}},
	}
}

func (w *world) count(call string) (n int) {
	for _, c := range w.calls {
		if c == call {
			n++
		}
	}
	return n
}

// stopAt has something happen while the intent of a deed is saved.
func (w *world) stopAt(event chain.Event, do func()) *bool {
	done := new(bool)
	w.strike = func(_ int, call string) fault {
		if !*done && (call == "store.Save "+string(event) || call == "store.SaveVault "+string(event)) {
			*done = true
			do()
		}
		return none
	}
	return done
}

// A process may stand still between the save of an intent and its effect, for longer than the effect has. By then a
// successor may have given it up.
func TestNoEffectBeginsAfterItsDeadline(t *testing.T) {
	for name, d := range deeds() {
		for how, stop := range map[string]func(*world){
			"the process stood still":                   func(w *world) { w.now = w.now.Add(time.Hour) },
			"the host was suspended and its clock lost": func(w *world) { w.slept += time.Hour },
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				w, step := d.due(t)
				before := w.count(d.call)
				w.reach(d, step, func() { stop(w) })
				if n := w.count(d.call) - before; n > 0 {
					t.Errorf("%s was called after the deadline\n%s", d.call, w.story())
				}
				w.strike = nil
				for range 300 { // the work goes on
					_ = step(w.rotator())
					w.now = w.now.Add(10 * time.Minute)
				}
				if w.count(d.call) == before {
					t.Errorf("%s was never called\n%s", d.call, w.story())
				}
			})
		}
	}
}

// reach steps until the intent is being saved, and has something happen then.
func (w *world) reach(d deed, step func(*rotate.Rotator) error, do func()) (err error) {
	w.tb.Helper()
	done := w.stopAt(d.intent, do)
	r := w.rotator()
	for range 200 {
		if err = step(r); *done {
			return err
		}
		w.now = w.now.Add(time.Second)
	}
	w.tb.Fatalf("%q is never saved\n%s", d.intent, w.story())
	return nil
}

func TestNoEffectBeginsOnceAnotherDaemonLeads(t *testing.T) {
	lost := errors.New("another daemon leads now")
	for name, d := range deeds() {
		t.Run(name, func(t *testing.T) {
			w, step := d.due(t)
			leads := true
			w.prove = func(context.Context) error {
				if leads {
					return nil
				}
				return lost
			}
			before := w.count(d.call)
			err := w.reach(d, step, func() { w.now, leads = w.now.Add(5*time.Second), false })
			if n := w.count(d.call) - before; n > 0 || !errors.Is(err, lost) {
				t.Errorf("%s was called %d times: %v", d.call, n, err)
			}
		})
	}
}

func TestRightAfterItsSaveAnEffectNeedsNoProof(t *testing.T) {
	for name, d := range deeds() {
		t.Run(name, func(t *testing.T) {
			w, step := d.due(t)
			proofs := 0
			w.prove = func(context.Context) error { proofs++; return nil }
			if _ = w.reach(d, step, func() {}); proofs > 0 {
				t.Errorf("leadership was proven %d times", proofs)
			}
		})
	}
}

// Whoever takes requests need not lead, so the request to enable proves nothing.
func TestAnEnablingNeedsAProof(t *testing.T) {
	w, r, p := rotatedOnly(t, weu)
	version := w.record(p.Key).Generations[0].Placements[0].Version
	if err := r.AskEnable(t.Context(), p, alice, "it is needed", version); err != nil {
		t.Fatal(err)
	}
	lost := errors.New("another daemon leads now")
	w.prove = func(context.Context) error { return lost }
	if _, err := w.rotator().StepKey(leading(t.Context()), p); !errors.Is(err, lost) || w.count("weu.Enable") > 0 {
		t.Errorf("enabled %d times, %v", w.count("weu.Enable"), err)
	}
	w.prove = nil
	w.now = w.now.Add(plan.EnableTries + plan.StepTimeout)
	w.settle(p)
	if n := w.count("weu.Enable"); n > 0 {
		t.Errorf("enabled %d times after the time for it", n)
	}
}

// keyd gave a disabling up, because nothing showed it in its time. Its call was held up on the way.
func TestADisablingThatComesLateIsUndoneAndAlarmed(t *testing.T) {
	w, r, p := rotatedOnly(t, weu)
	p = w.retireAfter(p, time.Hour)
	w.now = w.now.Add(3 * time.Hour)
	w.strikeOnce("weu.Disable", failBeforeAmbiguous)
	w.stepUntil(p, func() bool { return w.saved(chain.DisableIntended) > 0 })
	w.strike = func(int, string) fault { return none }
	w.vault[weu.URL].forbid = "Disable" // keyd tries again in its time
	for range 60 {
		_, _ = w.step(r, p)
		w.now = w.now.Add(time.Minute)
	}
	if w.saved(chain.DisableAborted) != 1 {
		t.Fatalf("the disabling was not given up\n%s", w.story())
	}
	w.vault[weu.URL].forbid = ""
	first := w.vault[weu.URL].key(p.Key).versions[0]
	first.Enabled = false // it comes now
	w.settle(p)
	if !first.Enabled || w.saved(chain.DisabledLate) != 1 || w.saved(chain.Enabled) != 1 {
		t.Errorf("enabled: %v\n%s", first.Enabled, w.story())
	}
	if w.record(p.Key).Consent != nil {
		t.Error("the consent to the retire rule stands")
	}
	if got := w.drifts(r, p); !slices.Contains(got, plan.DriftLate) {
		t.Errorf("drift %v: nothing tells of it any more", got)
	}
	w.consentToRetire(p)
	if got := w.drifts(r, p); slices.Contains(got, plan.DriftLate) {
		t.Errorf("drift %v after a new consent", got)
	}
}

// A KEK is used by the version in the vault's record. One that was given up may still come to light.
func TestAKEKThatComesLateDisplacesNothing(t *testing.T) {
	w, r, p := askForKEK(t)
	v := w.vault[weu.URL]
	w.hsm.pins, w.hsm.trust = []key.Fingerprint{w.print(weu)}, nil
	w.now = w.now.Add(5 * time.Minute)
	w.vaultSteps(r, weu, 2, time.Second)
	used := w.vaultRecord(weu).Active().Kid
	if _, _, err := r.RequestKEK(t.Context(), vaultPolicy(weu), alice, "another one"); err != nil {
		t.Fatal(err)
	}
	w.strikeOnce("weu.CreateKEK", failBeforeAmbiguous)
	w.vaultSteps(r, weu, 1, time.Second)
	attempt := w.vaultRecord(weu).Making().Attempt
	w.now = w.now.Add(time.Hour)
	w.strike = func(int, string) fault { return none }
	v.forbid = "CreateKEK" // the request stands, and keyd would make the next one
	w.vaultSteps(r, weu, 2, time.Second)
	v.newKEK(map[string]string{key.TagInstance: instance, key.TagAttempt: string(attempt)}) // it comes now
	w.vaultSteps(r, weu, 20, time.Minute)
	if k := w.vaultRecord(weu).Active(); k.Kid != used {
		t.Fatalf("in use: %s, want %s", k.Kid, used)
	}
	request(t, w, p, rotate.Wanted{Reason: "meanwhile"})
	w.settle(p)
	if g := w.record(p.Key); g.Latest().Finished.IsZero() || g.Latest().Placements[0].KEK != used {
		t.Errorf("the rotation did not use the key exchange key in use\n%s", w.story())
	}
}
