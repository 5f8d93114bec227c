package health

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/proof"
	"github.com/keyd-project/keyd/internal/quota"
)

const (
	expected   = "keyd_proof_expected_interval_seconds"
	configured = "keyd_proof_configured_interval_seconds"
)

// limited lets keyd use a share of both vaults.
func limited(share float64) func() ([]quota.Vault, float64) {
	return func() ([]quota.Vault, float64) {
		return []quota.Vault{
			{Vault: key.Vault{Name: "weu", URL: weu, Kind: key.KeyVault}, Share: share},
			{Vault: key.Vault{Name: "mhsm", URL: hsm, Kind: key.ManagedHSM}, Share: share},
		}, quota.DefaultShare
	}
}

// keysIn are n keys of an unknown size, which count as RSA-4096.
func keysIn(vault string, n int) []stored {
	keys := make([]stored, n)
	for i := range keys {
		keys[i] = managed(fmt.Sprintf("key-%03d", i), vault, 1, time.Now())
	}
	return keys
}

func wantInterval(t *testing.T, reg *prometheus.Registry, want time.Duration, metric string, labels ...string) {
	t.Helper()
	if v, ok := value(t, reg, metric, labels...); !ok || v != want.Seconds() {
		t.Errorf("%s of %v is %v, want %v", metric, labels, v, want.Seconds())
	}
}

func TestProofsComeAsOftenAsTheLimitsAllow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// 60 keys every 5 minutes are 0.4 calls a second, and a hundredth of the vault's limits is 0.25.
		w := newWorld(t, append(keysIn(weu, 60), managed("elsewhere", hsm, 1, time.Now()))...)
		h, reg := w.health(t, func(c *Config) { c.Quotas = limited(0.01) })
		run(t, h, func() {
			wait(10 * time.Minute)
			wantInterval(t, reg, 8*time.Minute, expected, ageNewest, "weu")
			wantInterval(t, reg, 5*time.Minute, expected, ageNewest, "mhsm")
			wantInterval(t, reg, 5*time.Minute, configured, ageNewest)
			before := len(w.times("key-000-v1"))
			wait(80 * time.Minute)
			if n := len(w.times("key-000-v1")) - before; n != 10 {
				t.Errorf("proven %d times in 80 minutes, want every 8 minutes", n)
			}
		})
	})
}

func TestProofsComeAsConfiguredAgainWhenTheyFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, keysIn(weu, 60)...)
		h, reg := w.health(t, func(c *Config) { c.Quotas = limited(0.01) })
		run(t, h, func() {
			wait(time.Minute)
			wantInterval(t, reg, 8*time.Minute, expected, ageNewest, "weu")
			w.save(func() { w.keys = w.keys[:30] })
			wait(time.Minute)
			wantInterval(t, reg, 5*time.Minute, expected, ageNewest, "weu")
		})
	})
}

func TestTheExpectedIntervalFollowsTheConfiguration(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	quotas := limited(0.5)
	h, reg := w.health(t, func(c *Config) {
		c.Quotas = func() ([]quota.Vault, float64) {
			mu.Lock()
			defer mu.Unlock()
			return quotas()
		}
	})
	h.SetPace(time.Minute, 0)
	wantInterval(t, reg, time.Minute, expected, ageNewest, "weu")
	wantInterval(t, reg, 24*time.Hour, expected, ageOlder, "weu")
	wantInterval(t, reg, time.Minute, configured, ageNewest)
	wantInterval(t, reg, 24*time.Hour, configured, ageOlder)
	mu.Lock()
	quotas = func() ([]quota.Vault, float64) { return nil, quota.DefaultShare }
	mu.Unlock()
	h.SetPace(time.Minute, 0)
	if _, ok := value(t, reg, expected, ageNewest, "weu"); ok {
		t.Error("a vault that left the configuration still has its interval")
	}
}

// The alert on stale proofs joins both series by the vault's name.
func TestAVaultThatARetainedKeyKnowsByAnOldNameHasItsIntervalUnderThatNameToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := managed("k", weu, 1, time.Now())
		k.Policy = key.Policy{Key: "k", Retained: true}
		k.Record.Generations[0].Placements[0].VaultName = "old-name"
		w := newWorld(t, k)
		h, reg := w.health(t, func(c *Config) { c.Quotas = limited(0.5) })
		run(t, h, func() { wait(2 * time.Minute) })
		for _, name := range []string{"weu", "old-name"} {
			wantInterval(t, reg, 5*time.Minute, expected, ageNewest, name)
		}
		if _, ok := value(t, reg, lastSuccess, ageNewest, "k", "old-name"); !ok {
			t.Error("the proofs do not show under the old name")
		}
	})
}

// asked notes of which size a proof says that its key is.
type asked struct {
	fakeVault
	spec map[key.Spec]bool
}

func (a asked) Wrap(ctx context.Context, name, version string, plain []byte) ([]byte, error) {
	a.w.do(func() { a.spec[quota.SpecOf(ctx)] = true })
	return a.fakeVault.Wrap(ctx, name, version, plain)
}

func TestAProofSaysTheSizeOfItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := managed("k", weu, 1, time.Now())
		k.Record.Generations[0].Spec = key.RSA3072
		w := newWorld(t, k)
		v := asked{fakeVault{w, weu}, map[key.Spec]bool{}}
		h, _ := w.health(t, func(c *Config) { c.Vaults = func(string) proof.Vault { return v } })
		run(t, h, func() { wait(2 * time.Minute) })
		if len(v.spec) != 1 || !v.spec[key.RSA3072] {
			t.Errorf("specs %v", v.spec)
		}
	})
}
