package hsm

import (
	"context"
	"sync"

	"github.com/keyd-project/keyd/internal/key"
)

// firstPass is the pass over the token that comes before the first search for a single pair. A search costs more the
// more objects a token has. Without the pass, the first proofs after a start would each search, and nothing else would
// get its turn on a token with many pairs.
type firstPass struct {
	once  sync.Once
	ended chan struct{}
}

func newFirstPass() *firstPass { return &firstPass{ended: make(chan struct{})} }

// passed notes that a pass is no longer necessary.
func (f *firstPass) passed() { f.once.Do(func() { close(f.ended) }) }

// beforeSearch waits for the first pass, unless the handles of the pair are known anyway. The pass goes on when the
// caller gives up, because the next one needs it too. If it fails, keyd searches.
func (e *engine) beforeSearch(ctx context.Context, id key.ID) {
	if _, known := e.recall(id); known {
		return
	}
	e.first.once.Do(func() {
		pass := context.WithoutCancel(ctx)
		go func() {
			defer close(e.first.ended)
			if _, err := e.Inventory(pass); err != nil {
				e.log.WarnContext(pass, "the key pairs cannot be listed, so each is searched for", "error", err.Error())
			}
		}()
	})
	select {
	case <-e.first.ended:
	case <-ctx.Done():
	}
}
