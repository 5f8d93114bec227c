package daemon

import (
	"context"
	"sync"

	"github.com/keyd-project/keyd/internal/status"
)

// hubBuffer is how many events a slow reader may lag behind before it loses some.
const hubBuffer = 256

// hub passes events to every subscriber and never waits for one.
type hub struct {
	mu   sync.Mutex
	subs map[chan status.Event]struct{}
}

func newHub() *hub { return &hub{subs: map[chan status.Event]struct{}{}} }

func (h *hub) publish(e status.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.subs {
		select {
		case c <- e:
		default:
		}
	}
}

// subscribe delivers events until ctx ends, and then closes the channel.
func (h *hub) subscribe(ctx context.Context) <-chan status.Event {
	c := make(chan status.Event, hubBuffer)
	h.mu.Lock()
	h.subs[c] = struct{}{}
	h.mu.Unlock()
	context.AfterFunc(ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.subs, c)
		close(c)
	})
	return c
}
