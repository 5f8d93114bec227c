package health

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/proof"
	"github.com/keyd-project/keyd/internal/quota"
)

// counting counts the calls to a vault.
type counting struct {
	fakeVault
	calls *int
}

func (c counting) count() { c.w.do(func() { *c.calls++ }) }

func (c counting) Get(ctx context.Context, name, version string) (key.Version, error) {
	c.count()
	return c.fakeVault.Get(ctx, name, version)
}

func (c counting) Wrap(ctx context.Context, name, version string, plain []byte) ([]byte, error) {
	c.count()
	return c.fakeVault.Wrap(ctx, name, version, plain)
}

func (c counting) Unwrap(ctx context.Context, name, version string, cipher []byte) ([]byte, error) {
	c.count()
	return c.fakeVault.Unwrap(ctx, name, version, cipher)
}

func TestTheNextProofsTakeAsManyCallsAsTheQuotaCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var counted quota.Proofs
		counted.AddNewest(key.KeyVault, key.RSA2048, []key.Operation{key.WrapKey, key.UnwrapKey})
		w := newWorld(t, managed("k", weu, 1, time.Now()))
		calls := 0
		h, _ := w.health(t, func(c *Config) {
			c.Vaults = func(string) proof.Vault { return counting{fakeVault{w, weu}, &calls} }
		})
		run(t, h, func() {
			wait(time.Minute)
			w.do(func() { calls = 0 })
			before := len(w.times("k-v1"))
			wait(time.Hour)
			proofs := len(w.times("k-v1")) - before
			w.do(func() {
				if proofs != 12 || calls != proofs*counted.Newest.Calls {
					t.Errorf("%d proofs took %d calls, want %d each", proofs, calls, counted.Newest.Calls)
				}
			})
		})
	})
}

func TestAProofThatDidNotPassAsksForTheVersionAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, managed("k", weu, 1, time.Now()))
		h, _ := w.health(t, nil)
		run(t, h, func() {
			wait(time.Minute)
			failed := 0
			w.do(func() {
				w.fail = func(_, _ string, leg proof.Leg) error {
					if leg == proof.LegWrap && failed == 0 {
						failed++
						return errors.New("403 Forbidden")
					}
					return nil
				}
			})
			wait(10 * time.Minute)
			w.do(func() {
				if w.gets != 2 {
					t.Errorf("the version was asked for %d times, want once more after the failure", w.gets)
				}
			})
		})
	})
}

func TestAVersionThatWasProvenBeforeTheStartIsNotReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, managed("k", weu, 2, time.Now()))
		m, err := key.FromRSA(&w.pair.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		h, _ := w.health(t, func(c *Config) {
			c.Earlier = func(s Subject) *key.Version { return proof.Earlier(s.Version, m, time.Time{}) }
		})
		run(t, h, func() {
			wait(25 * time.Hour)
			w.do(func() {
				if newest, older := len(w.proofs["k-v2"]), len(w.proofs["k-v1"]); w.gets != 0 || newest+older == 0 {
					t.Errorf("%d proofs of the newest version and %d of the older one read a version %d times", newest,
						older, w.gets)
				}
			})
		})
	})
}
