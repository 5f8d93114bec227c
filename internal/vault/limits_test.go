package vault

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/priority"
	"github.com/keyd-project/keyd/internal/quota"
)

// keyVault is the n-th Key Vault, of which keyd may use half.
func keyVault(n int) quota.Vault {
	name := fmt.Sprintf("v%d", n)
	return quota.Vault{
		Vault: key.Vault{Name: name, URL: "https://" + name + ".vault.azure.net", Kind: key.KeyVault}, Share: 0.5,
	}
}

func managedHSM() quota.Vault {
	return quota.Vault{
		Vault: key.Vault{Name: "hsm", URL: "https://hsm.managedhsm.azure.net", Kind: key.ManagedHSM}, Share: 0.5,
	}
}

// flood sends as many calls as the gate lets through, in as many goroutines, until ctx ends.
func flood(ctx context.Context, g *gate, k call, goroutines int, passed *atomic.Int64) {
	for range goroutines {
		go func() {
			for g.wait(ctx, k) == nil {
				passed.Add(1)
			}
		}()
	}
}

// passedIn counts the calls that a gate lets through in the first period of 10 seconds and in the next.
func passedIn(t *testing.T, g *gate, k call) (first, second int64) {
	var passed atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	flood(ctx, g, k, 20, &passed)
	time.Sleep(10 * time.Second)
	first = passed.Load()
	time.Sleep(10 * time.Second)
	return first, passed.Load() - first
}

func TestKeydSendsItsShareOfWhatAVaultAllows(t *testing.T) {
	for _, c := range []struct {
		vault   quota.Vault
		op      operation
		spec    key.Spec
		allowed int64 // in 10 seconds
	}{
		{keyVault(1), opGet, key.RSA2048, 2000},
		{keyVault(1), opUnwrap, key.RSA3072, 500},
		{keyVault(1), opWrap, key.RSA4096, 250},
		{keyVault(1), opVersions, key.RSA4096, 250},
		{keyVault(1), opImport, key.RSA2048, 300},
		{keyVault(1), opCreateKEK, key.RSA4096, 10},
		{managedHSM(), opGet, key.RSA4096, 11_000},
		{managedHSM(), opUnwrap, key.RSA4096, 1600},
		{managedHSM(), opCreateKEK, key.RSA4096, 10},
	} {
		t.Run(fmt.Sprintf("%s %s %s", c.vault.Kind, c.op.name, c.spec), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := NewLimits()
				l.Set([]quota.Vault{c.vault}, 0.5)
				g := l.of(c.vault.Vault)
				g.expect("k", c.spec)
				first, second := passedIn(t, g, call{op: c.op, key: "k"})
				share := c.allowed / 2
				if second > share+1 || second < share*98/100 {
					t.Errorf("%d calls in 10 seconds, want %d", second, share)
				}
				if oneSecond := max(1, c.allowed/20); first > share+oneSecond+1 {
					t.Errorf("%d calls in the first 10 seconds, want at most %d", first, share+oneSecond)
				}
			})
		})
	}
}

func TestTheShareFollowsTheConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, v := NewLimits(), keyVault(1)
		g := l.of(v.Vault)
		passedIn(t, g, call{op: opGet, key: "k"})
		v.Share = 0.1
		l.Set([]quota.Vault{v}, 0.5)
		if first, _ := passedIn(t, g, call{op: opGet, key: "k"}); first > 27 {
			t.Errorf("%d calls in 10 seconds, want a tenth of 250", first)
		}
	})
}

func TestAReloadGivesNoSecondShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, v := NewLimits(), keyVault(1)
		passedIn(t, l.of(v.Vault), call{op: opGet, key: "k"})
		l.Set([]quota.Vault{v}, 0.5)
		if first, _ := passedIn(t, l.of(v.Vault), call{op: opGet, key: "k"}); first > 126 {
			t.Errorf("%d calls in 10 seconds, want 125", first)
		}
	})
}

// A reload makes the clients first, and may be refused then.
func TestANewVaultDoesNotChangeTheShareOfItsSubscription(t *testing.T) {
	l := NewLimits()
	l.Set([]quota.Vault{keyVault(1)}, 0.1)
	before := l.subscriptions[""][quota.Calls].Limit()
	l.of(keyVault(2).Vault)
	if after := l.subscriptions[""][quota.Calls].Limit(); after != before {
		t.Errorf("the subscription gets %v instead of %v", after, before)
	}
}

func TestTheVaultsOfASubscriptionStayWithinItsLimits(t *testing.T) {
	for subscriptions, want := range map[int]int64{1: 625, 2: 1250} {
		synctest.Test(t, func(t *testing.T) {
			l := NewLimits()
			var passed atomic.Int64
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			for n := range 10 {
				v := keyVault(n)
				v.Subscription = fmt.Sprint(n % subscriptions)
				l.Set([]quota.Vault{v}, 0.5)
				flood(ctx, l.of(v.Vault), call{op: opGet, key: "k"}, 5, &passed)
			}
			time.Sleep(10 * time.Second)
			before := passed.Load()
			time.Sleep(10 * time.Second)
			if n := passed.Load() - before; n > want+10 || n < want-10 {
				t.Errorf(
					"ten vaults of %d subscriptions sent %d calls in 10 seconds, want %d",
					subscriptions,
					n,
					want,
				)
			}
		})
	}
}

func TestAnOperatorsCallGoesOutNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewLimits().of(keyVault(1).Vault)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var looks atomic.Int64
		for range 2000 {
			go func() {
				if g.wait(ctx, call{op: opGet, key: "k"}) == nil {
					looks.Add(1)
				}
			}()
		}
		time.Sleep(time.Second)
		synctest.Wait() // a look whose turn came in this very moment has gone out
		before := looks.Load()
		if err := g.wait(priority.With(ctx, priority.Operator), call{op: opVersions, key: "k"}); err != nil {
			t.Fatal(err)
		}
		if n := looks.Load() - before; n > 1 { // the one whose turn it already was
			t.Errorf("%d looks went out before an operator's call", n)
		}
	})
}

func TestALookGetsATenthBesideOperatorsCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewLimits().of(keyVault(1).Vault)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var looks, asked atomic.Int64
		flood(priority.With(ctx, priority.Operator), g, call{op: opGet, key: "k"}, 20, &asked)
		flood(ctx, g, call{op: opGet, key: "k"}, 20, &looks)
		time.Sleep(time.Second) // the first second's worth goes out at once, before all of them wait
		first, firstAsked := looks.Load(), asked.Load()
		time.Sleep(100 * time.Second)
		got, others := looks.Load()-first, asked.Load()-firstAsked
		if all := got + others; got < all/10-1 {
			t.Errorf("looks got %d of %d calls", got, all)
		}
	})
}

func TestAnImportDoesNotHoldUpOtherCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewLimits().of(managedHSM().Vault)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var imports, gets atomic.Int64
		flood(priority.With(ctx, priority.Operator), g, call{op: opImport, key: "k"}, 10, &imports)
		flood(ctx, g, call{op: opGet, key: "k"}, 10, &gets)
		time.Sleep(10 * time.Second)
		if gets.Load() < 5000 {
			t.Errorf("beside %d imports %d other calls went out in 10 seconds", imports.Load(), gets.Load())
		}
	})
}

func TestACallThatStopsWaitingIsNotSentAndTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewLimits().of(keyVault(1).Vault)
		create := call{op: opCreateKEK, key: "kek"}
		if err := g.wait(t.Context(), create); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := g.wait(ctx, create); !errors.Is(err, context.DeadlineExceeded) || !time.Now().Equal(begun) {
			t.Errorf("it waits %s although its deadline comes first: %v", time.Since(begun), err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := g.wait(ctx, create); !errors.Is(err, context.Canceled) {
			t.Errorf("it was cancelled, and answers %v", err)
		}
		if err := g.wait(t.Context(), create); err != nil || time.Since(begun) > 2*time.Second {
			t.Errorf("the next was sent after %s: %v", time.Since(begun), err)
		}
	})
}

func TestACallCountsByTheSizeOfItsKey(t *testing.T) {
	shown := func(t *testing.T, id string, spec key.Spec) key.Version {
		t.Helper()
		n := make([]byte, spec.Bits()/8)
		n[0], n[len(n)-1] = 0x80, 1
		m, err := key.FromJWK(n, []byte{1, 0, 1})
		if err != nil {
			t.Fatal(err)
		}
		return key.Version{ID: id, Material: m}
	}
	l := NewLimits()
	v := keyVault(1).Vault
	l.Expect([]key.Policy{{Key: "configured", Spec: key.RSA2048, Vaults: []key.Vault{v}}})
	g := l.of(v)
	g.saw("Grown", shown(t, "old", key.RSA2048))
	g.saw("grown", shown(t, "new", key.RSA3072))
	for _, c := range []struct {
		why  string
		call call
		want key.Spec
	}{
		{"a version that the vault showed", call{key: "grown", version: "old"}, key.RSA2048},
		{"the newest of a key: the largest shown", call{key: "grown"}, key.RSA3072},
		{"a version that the vault has not shown: the largest shown", call{key: "grown", version: "x"}, key.RSA3072},
		{"a key that the vault has not shown: as configured", call{key: "configured"}, key.RSA2048},
		{"a key that keyd knows nothing of", call{key: "unknown"}, ""},
		{"no key", call{}, key.RSA2048},
	} {
		if got := g.specOf(c.call); got != c.want {
			t.Errorf("%s: %q, want %q", c.why, got, c.want)
		}
	}
}

func TestTheCallerMaySayTheSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewLimits().of(keyVault(1).Vault)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var passed atomic.Int64
		flood(quota.WithSpec(ctx, key.RSA2048), g, call{op: opWrap, key: "k", version: "v"}, 20, &passed)
		time.Sleep(10 * time.Second)
		if passed.Load() < 1000 {
			t.Errorf("%d calls on RSA-2048 in 10 seconds, want 1000", passed.Load())
		}
	})
}
