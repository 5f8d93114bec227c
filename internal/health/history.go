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
	seen day
}

// day is what was observed.
type day struct {
	ring [slots]mark // indexed by the slot's number modulo slots
	// down is the last observation if it was bad: the trouble before it is counted. Zero: it was good.
	down    time.Time
	lastBad time.Time // when trouble was last observed
}

// mark is the state of one slot.
type mark struct {
	number int64 // slots since 1970
	state  status.Slot
	bad    time.Duration // how long there was trouble in it
}

// Note adds an observation. A slot that was bad once stays bad.
func (h *History) Note(at time.Time, good bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen.count(at)
	h.seen.down = time.Time{}
	m := h.seen.slot(slotNumber(at))
	switch {
	case !good:
		m.state, h.seen.down, h.seen.lastBad = status.SlotBad, at, at
	case m.state != status.SlotBad:
		m.state = status.SlotGood
	}
}

// Until returns the history that ends with the slot of now.
func (h *History) Until(now time.Time) status.History {
	h.mu.Lock()
	seen := h.seen
	h.mu.Unlock()
	seen.count(now)
	last := slotNumber(now)
	first := last - slots + 1
	out := status.History{
		Start: begin(first).UTC(),
		Width: status.Seconds(slotWidth),
		Slots: make([]status.Slot, slots),
		Bad:   make([]float64, slots),
	}
	for i := range out.Slots {
		n := first + int64(i)
		out.Slots[i] = status.SlotUnknown
		if m := seen.ring[place(n)]; m.number == n && m.state != "" {
			out.Slots[i], out.Bad[i] = m.state, m.bad.Seconds()
		}
	}
	if !seen.lastBad.Before(out.Start) && !seen.lastBad.After(now) {
		out.LastBad = seen.lastBad
	}
	return out
}

// count adds the trouble since the last observation, if that was bad. Trouble lasts until the next observation, but no
// longer than the width of a slot: after that nothing is known.
func (d *day) count(until time.Time) {
	if d.down.IsZero() {
		return
	}
	if latest := d.down.Add(slotWidth); until.After(latest) {
		until = latest
	}
	for from := d.down; from.Before(until); {
		n := slotNumber(from)
		to := begin(n + 1)
		if to.After(until) {
			to = until
		}
		m := d.slot(n)
		m.state = status.SlotBad
		m.bad += to.Sub(from)
		from = to
	}
}

// slot is the slot with this number. If another one was in its place, that one is a day older or from a clock that ran
// ahead, and is forgotten.
func (d *day) slot(n int64) *mark {
	m := &d.ring[place(n)]
	if m.number != n {
		*m = mark{number: n}
	}
	return m
}

func slotNumber(at time.Time) int64 { return at.Unix() / int64(slotWidth/time.Second) }

// begin is when the slot with this number begins.
func begin(n int64) time.Time { return time.Unix(n*int64(slotWidth/time.Second), 0) }

func place(n int64) int64 { return (n%slots + slots) % slots }
