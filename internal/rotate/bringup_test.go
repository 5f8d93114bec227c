package rotate_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/rotate"
)

// newKeys is a loop with a few new keys in one vault of the world. The world's clock stands still, so a key that waits
// for a time never goes on.
func newKeys(t *testing.T, w *world) (l *rotate.Loop, policies []key.Policy) {
	t.Helper()
	for i := range 5 {
		p := policy(weu)
		p.Key = fmt.Sprintf("key-%d", i)
		policies = append(policies, p)
	}
	l = rotate.NewLoop(w.rotator(), 1)
	l.SetPolicies(policies)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); l.Run(leading(ctx)) }()
	t.Cleanup(func() { cancel(); <-ended })
	synctest.Wait()
	return l, policies
}

// wantFinished requires how many of the keys are active, once nothing goes on any more.
func wantFinished(t *testing.T, w *world, policies []key.Policy, want int) {
	t.Helper()
	synctest.Wait()
	n := 0
	for _, p := range policies {
		rec := w.record(p.Key)
		if g := rec.Latest(); g != nil && !g.Finished.IsZero() {
			n++
		}
	}
	if n != want {
		t.Errorf("%d keys are active, want %d\n%s", n, want, w.story())
	}
}

func TestNewKeysWaitForNoClockOnceTheVaultHasItsFirstKeyExchangeKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, weu)
		l, policies := newKeys(t, w)
		wantFinished(t, w, policies, 0)
		l.SetVaults([]key.VaultPolicy{vaultPolicy(weu)}) // and now somebody makes it
		wantFinished(t, w, policies, len(policies))
	})
}

func TestNewKeysWaitForNoClockOnceTheHSMAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, weu)
		w.hsm.down = true
		l, policies := newKeys(t, w)
		l.SetVaults([]key.VaultPolicy{vaultPolicy(weu)})
		wantFinished(t, w, policies, 0)
		w.hsm.down = false
		l.HSMBack()
		wantFinished(t, w, policies, len(policies))
	})
}
