package hsm

import (
	"context"
	"crypto/sha256"
	"sync"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// justStarted makes an engine know of its pairs what a new process does.
func justStarted(e *engine) {
	e.rememberAll(map[key.ID]pair{})
	e.first = newFirstPass()
}

func TestAfterAStartTheProofsOfAllPairsShareOnePass(t *testing.T) {
	var m *counted
	e := inProcess(t, func(real module) module { m = newCounted(real); return m })
	secret := []byte("x")
	sum := sha256.Sum256(secret)
	closed := map[key.ID][]byte{}
	for range 5 {
		id := mustGenerate(t, e)
		public, err := e.PublicKey(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		closed[id] = seal(t, public, secret)
	}
	justStarted(e)
	got := m.during(func() {
		var proofs sync.WaitGroup
		for id, ciphertext := range closed {
			proofs.Go(func() {
				if yes, err := e.Opens(t.Context(), id, ciphertext, sum); err != nil || !yes {
					t.Error(yes, err)
				}
			})
		}
		proofs.Wait()
	})
	if searches := got["FindObjectsInit"]; searches != 2 {
		t.Errorf("%d searches, want 2: one for each class of objects", searches)
	}
}

func TestTheFirstPassGoesOnWhenItsCallerGivesUp(t *testing.T) {
	e := inProcess(t, func(real module) module { return real })
	id := mustGenerate(t, e)
	justStarted(e)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e.beforeSearch(ctx, id)
	<-e.first.ended
	if _, known := e.recall(id); !known {
		t.Error("the pass of a caller that gave up was not finished")
	}
}

// A module may give a handle to another object.
func TestAPairWhoseHandleShowsAnotherOneIsSearchedFor(t *testing.T) {
	e := inProcess(t, func(real module) module { return real })
	known, other := mustGenerate(t, e), mustGenerate(t, e)
	stale, _ := e.recall(known)
	wrong, _ := e.recall(other)
	stale.private = wrong.private
	e.remember(known, stale)
	e.seen.saw(time.Now().Add(-time.Minute))
	if err := e.Generate(t.Context(), newID(t), "sa-cmk-key", 2, key.RSA2048, known); err != nil {
		t.Error(err)
	}
}
