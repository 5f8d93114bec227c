package health

import (
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/status"
)

const (
	// slotWidth times slots is 24 hours.
	slotWidth = 15 * time.Minute
	slots     = 96
)

// History remembers, in memory only, how well a vault or the HSM worked during the last 24 hours. The zero History is
// empty. It is safe for concurrent use.
type History struct {
	mu   sync.Mutex
	ring [slots]mark // indexed by the slot's number modulo slots
}

// mark is the state of one slot.
type mark struct {
	number int64 // slots since 1970
	state  status.Slot
}

// Note adds an observation. A slot that was bad once stays bad.
func (h *History) Note(at time.Time, good bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := slotNumber(at)
	m := &h.ring[place(n)]
	switch {
	case !good:
		*m = mark{n, status.SlotBad}
	case m.number != n || m.state != status.SlotBad:
		*m = mark{n, status.SlotGood}
	}
}

// Until returns the history that ends with the slot of now.
func (h *History) Until(now time.Time) status.History {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := slotNumber(now)
	first := last - slots + 1
	out := status.History{
		Start: time.Unix(first*int64(slotWidth/time.Second), 0).UTC(),
		Width: status.Seconds(slotWidth),
		Slots: make([]status.Slot, slots),
	}
	for i := range out.Slots {
		n := first + int64(i)
		out.Slots[i] = status.SlotUnknown
		if m := h.ring[place(n)]; m.number == n && m.state != "" {
			out.Slots[i] = m.state
		}
	}
	return out
}

func slotNumber(at time.Time) int64 { return at.Unix() / int64(slotWidth/time.Second) }

func place(n int64) int64 { return (n%slots + slots) % slots }
