package health

import (
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/status"
)

const (
	// slotWidth and slots make a history of 24 hours.
	slotWidth = 15 * time.Minute
	slots     = 96
)

// History remembers, in memory only, how a vault or the HSM was during the last 24
// hours. The zero History has seen nothing. Its methods may be called from many
// goroutines.
type History struct {
	mu   sync.Mutex
	ring [slots]mark // at the slot's number modulo slots
}

// mark is what was seen in one slot.
type mark struct {
	number int64 // of the slot since 1970
	state  status.Slot
}

// Note adds what was seen at a time. Once bad, a slot stays bad.
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

// Until is the history that ends with the slot of now.
func (h *History) Until(now time.Time) status.History {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := slotNumber(now)
	first := last - slots + 1
	out := status.History{
		Start: time.Unix(first*int64(slotWidth/time.Second), 0).UTC(),
		Width: slotWidth,
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
