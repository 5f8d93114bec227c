package hsm

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/priority"
)

// making bounds how many key pairs are made at once. A call inside the library cannot be interrupted, so at least one
// session never makes a pair, if there are several: what a person waits for never waits for a pair.
//
// It also keeps whoever reads every object away from pairs that are being made. Some modules show such objects half
// made. To read one then fails the read or the generation, or spoils the new object (SoftHSM 2.6.1).
type making struct {
	turns *priority.Slots
	most  int64               // pairs at once
	gate  *semaphore.Weighted // a pair weighs 1; what must be alone weighs most
	alone func() bool         // the module makes one pair at a time

	mu             sync.Mutex
	running, begun int
}

func newMaking(sessions int, alone func() bool) *making {
	most := max(1, sessions-1)
	return &making{
		turns: priority.NewSlots(most), most: int64(most), gate: semaphore.NewWeighted(int64(most)), alone: alone,
	}
}

// turn is the making of one pair.
type turn struct {
	making *making
	weight int64
	beside bool // others ran when it began
	number int
}

// begin waits until one more pair may be made. The caller calls end once after it.
func (m *making) begin(ctx context.Context) (*turn, error) {
	if err := m.turns.Acquire(ctx); err != nil {
		return nil, noTurn(err)
	}
	t := &turn{making: m, weight: 1}
	if m.alone() {
		t.weight = m.most
	}
	if err := m.gate.Acquire(ctx, t.weight); err != nil {
		m.turns.Release()
		return nil, noTurn(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	t.beside = m.running > 0
	m.running++
	m.begun++
	t.number = m.begun
	return t, nil
}

// wasAlone reports whether no other pair was being made at any time since t began.
func (t *turn) wasAlone() bool {
	t.making.mu.Lock()
	defer t.making.mu.Unlock()
	return !t.beside && t.making.begun == t.number
}

func (t *turn) end() {
	t.making.mu.Lock()
	t.making.running--
	t.making.mu.Unlock()
	t.making.gate.Release(t.weight)
	t.making.turns.Release()
}

// pause waits until no pair is being made. Until resume, none is. Everyone who makes pairs then waits for the caller,
// so its work gets the highest class.
func (m *making) pause(ctx context.Context) (urgent context.Context, resume func(), err error) {
	if err := m.gate.Acquire(ctx, m.most); err != nil {
		return nil, nil, noTurn(err)
	}
	return priority.With(ctx, priority.Operator), func() { m.gate.Release(m.most) }, nil
}

func noTurn(err error) error {
	return newError(Busy, key.Retry, "other key pairs are still being made on the token: %w", err)
}
