package health

import (
	"context"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/priority"
	"github.com/keyd-project/keyd/internal/proof"
)

// classVault counts by class who wraps.
type classVault struct {
	proof.Vault
	mu    *sync.Mutex
	wraps map[priority.Class]int
}

func (v classVault) Wrap(ctx context.Context, name, version string, plaintext []byte) ([]byte, error) {
	v.mu.Lock()
	v.wraps[priority.Of(ctx)]++
	v.mu.Unlock()
	return v.Vault.Wrap(ctx, name, version, plaintext)
}

func TestRoutineProofsHaveTheirClassAndThoseForAPersonGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, managed("k", weu, 1, time.Now().Add(-time.Hour)))
		v := classVault{fakeVault{w, weu}, &sync.Mutex{}, map[priority.Class]int{}}
		h, _ := w.health(t, func(c *Config) { c.Vaults = func(string) proof.Vault { return v } })
		run(t, h, func() { wait(startSpread) })
		if results, err := h.Prove(t.Context(), "k"); err != nil || results[0].Outcome != key.Passed {
			t.Fatal(results, err)
		}
		if want := map[priority.Class]int{priority.Proof: 1, priority.Operator: 1}; !maps.Equal(v.wraps, want) {
			t.Errorf("wraps by class %v, want %v", v.wraps, want)
		}
	})
}
