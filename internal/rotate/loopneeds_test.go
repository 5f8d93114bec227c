package rotate

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/priority"
	"github.com/keyd-project/keyd/internal/record"
)

// No time passes here between the making of the key exchange key and the next steps of those that waited for it.
func TestKeysThatWaitForAKeyExchangeKeyGoOnAtOnceWhenItIsInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &found{kek: errors.New("there is none yet")}
		made := make(chan struct{})
		f := &fakeSteps{found: w.look, key: w.waits}
		f.vault = func() (plan.Step, error) {
			if f.count(testVault) > 1 {
				return plan.Step{Kind: plan.Idle}, nil
			}
			<-made
			w.set(func(w *found) { w.kek = nil })
			return plan.Step{Kind: plan.UseKEK}, nil
		}
		l := fakeLoop(f, 4)
		l.SetPolicies(keys(3))
		run(t, l)
		synctest.Wait()
		l.SetVaults(weu)
		wantCounts(t, f, map[string]int{testVault: 1, "key-0000": 1, "key-0001": 1, "key-0002": 1})
		close(made)
		wantCounts(t, f, map[string]int{testVault: 2, "key-0000": 2, "key-0001": 2, "key-0002": 2})
		for _, c := range f.all()[5:] {
			if c.class != priority.Due && c.id != testVault {
				t.Errorf("%s went on as %s", c.id, c.class)
			}
		}
	})
}

func TestOneKeyTriesForAllThatWaitForAVault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &found{vault: retryError{}}
		f := &fakeSteps{found: w.look, key: w.waits}
		l := fakeLoop(f, 1)
		l.SetPolicies(keys(3))
		run(t, l)
		time.Sleep(4*time.Minute + time.Second)
		wantCounts(t, f, map[string]int{"key-0000": 9, "key-0001": 1, "key-0002": 1})
		w.set(func(w *found) { w.vault = nil })
		f.forgetCalls()
		time.Sleep(30 * time.Second)
		wantCounts(t, f, map[string]int{"key-0000": 1, "key-0001": 1, "key-0002": 1})
	})
}

func TestTheNextTriesWhenTheKeyThatTriedForAllHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &found{vault: retryError{}}
		f := &fakeSteps{found: w.look, key: w.waits}
		l := fakeLoop(f, 1)
		l.SetPolicies(keys(3))
		run(t, l)
		time.Sleep(time.Second)
		l.SetPolicies(keys(3)[1:])
		time.Sleep(lastPause)
		synctest.Wait()
		f.forgetCalls()
		time.Sleep(4 * time.Minute)
		wantCounts(t, f, map[string]int{"key-0001": 8})
	})
}

func TestAVaultsOwnStepWakesTheKeysThatWaitForTheVault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &found{vault: retryError{}}
		f := &fakeSteps{found: w.look, key: w.waits}
		f.vault = func() (plan.Step, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			f.seenVault(w.vault)
			return plan.Step{Kind: plan.Idle}, nil
		}
		l := fakeLoop(f, 1)
		l.SetVaults(weu)
		l.SetPolicies(keys(3))
		run(t, l)
		synctest.Wait()
		w.set(func(w *found) { w.vault = nil })
		f.forgetCalls()
		l.PokeVault(testVault, priority.Operator)
		wantCounts(t, f, map[string]int{testVault: 1, "key-0000": 1, "key-0001": 1, "key-0002": 1})
		if f.asked != 1 {
			t.Errorf("the observer was to ask again %d times", f.asked)
		}
	})
}

func TestWhatWaitsForTheHSMGoesOnAtOnceWhenItIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &found{hsm: errors.New("down")}
		f := &fakeSteps{found: w.look, key: w.waits}
		l := fakeLoop(f, 1)
		l.SetVaults(weu)
		l.SetPolicies(keys(3))
		run(t, l)
		synctest.Wait()
		w.set(func(w *found) { w.hsm = nil })
		f.forgetCalls()
		l.HSMBack()
		wantCounts(t, f, map[string]int{testVault: 1, "key-0000": 1, "key-0001": 1, "key-0002": 1})
		l.HSMBack() // nobody waits any more
		wantCounts(t, f, map[string]int{testVault: 2, "key-0000": 1, "key-0001": 1, "key-0002": 1})
	})
}

func TestALookThatBeganBeforeTheHSMWasBackIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &found{hsm: errors.New("down")}
		f := &fakeSteps{found: w.look}
		f.key = func(ctx context.Context, name string) (plan.Step, error) {
			s, err := w.waits(ctx, name)
			time.Sleep(time.Second)
			return s, err
		}
		l := fakeLoop(f, 4)
		l.SetPolicies(keys(2))
		run(t, l)
		time.Sleep(time.Millisecond) // both are being looked at
		w.set(func(w *found) { w.hsm = nil })
		l.HSMBack()
		time.Sleep(time.Second)
		wantCounts(t, f, map[string]int{"key-0000": 2, "key-0001": 2})
	})
}

// Somebody may have revoked what only this key needs, or its calls alone time out.
func TestAKeyThatAloneFindsNoVaultIsNotSteppedAfterEveryLookOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &found{vault: retryError{}}
		f := &fakeSteps{key: func(ctx context.Context, name string) (plan.Step, error) {
			if name == "key-0000" {
				return w.waits(ctx, name)
			}
			return plan.Step{Kind: plan.Idle}, nil
		}}
		l := fakeLoop(f, 1)
		f.found = func() *record.Observation {
			if calls := f.all(); calls[len(calls)-1].id == "key-0000" {
				return w.look()
			}
			return (&found{}).look()
		}
		l.SetPolicies(keys(2))
		run(t, l)
		for range 60 {
			synctest.Wait()
			l.Poke("key-0001", priority.Look)
			time.Sleep(time.Second)
		}
		// At first, woken at once, twice after half a minute (by itself and woken), and after the next half.
		wantCounts(t, f, map[string]int{"key-0000": 5, "key-0001": 61})
	})
}

// An answer that concerns one key says nothing of others.
func TestAKeyThatAVaultRefusesDoesNotTryForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &found{vault: &RefusedError{Reason: "403"}}
		f := &fakeSteps{found: w.look, key: w.waits}
		l := fakeLoop(f, 1)
		l.SetPolicies(keys(2))
		run(t, l)
		time.Sleep(time.Minute + time.Second)
		wantCounts(t, f, map[string]int{"key-0000": 3, "key-0001": 3})
	})
}

func TestEveryKeyIsTriedWhenTheCredentialWasRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSteps{}
		l := fakeLoop(f, 1)
		l.SetVaults(weu)
		l.SetPolicies(keys(2))
		run(t, l)
		synctest.Wait()
		l.PokeAll()
		wantCounts(t, f, map[string]int{testVault: 2, "key-0000": 2, "key-0001": 2})
	})
}
