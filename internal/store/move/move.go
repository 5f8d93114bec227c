package move

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

// Done is what was moved.
type Done struct {
	From    string     `json:"from"`
	To      string     `json:"to"`
	Entries uint64     `json:"entries"`
	Records int        `json:"records"`
	Head    string     `json:"head"`
	tip     stored.Tip // of the copy
}

// Order says who moves a state, and when.
type Order struct {
	Host string
	Now  time.Time
}

const (
	leaseTime = time.Minute // longer than one page of a copy may take
	mostTries = 20
)

// Copy moves a state: it takes the lease on both sides, copies and verifies everything, seals the old store, copies what
// came meanwhile, and lets keyd use the new one.
func Copy(ctx context.Context, from Side, to Target, o Order) (Done, error) {
	seal := fmt.Sprintf("its state was moved to %s by keyd store copy on %s at %s", to.Name(), o.Host,
		o.Now.UTC().Format(time.RFC3339))
	resumed, err := usable(ctx, from, to)
	if err != nil {
		return Done{}, err
	}
	m := &mover{from: from, to: to}
	if err := m.take(ctx, "keyd store copy on "+o.Host, !resumed); err != nil {
		return Done{}, err
	}
	defer m.release(context.WithoutCancel(ctx))
	if err := to.Begin(ctx); err != nil {
		return Done{}, err
	}
	if err := m.copyAll(ctx); err != nil {
		return Done{}, err
	}
	if !resumed {
		if err := from.Seal(ctx, seal); err != nil {
			return Done{}, fmt.Errorf("close %s: %w", from.Name(), err)
		}
		if err := m.copyAll(ctx); err != nil {
			return Done{}, err
		}
	}
	done, err := m.compare(ctx)
	if err != nil {
		return Done{}, err
	}
	m.release(ctx)
	return done, to.Finish(ctx)
}

// usable refuses what cannot be copied into the other. resumed: the old store was closed for this very copy.
func usable(ctx context.Context, from, to Side) (resumed bool, err error) {
	if from.Name() == to.Name() {
		return false, fmt.Errorf("both configurations have the state in one place, %s: name two", from.Name())
	}
	if why, err := to.Sealed(ctx); err != nil || why != "" {
		if err == nil {
			err = fmt.Errorf("%s takes no changes any more: %s. Copy into an empty store", to.Name(), why)
		}
		return false, err
	}
	why, err := from.Sealed(ctx)
	if err != nil {
		return false, err
	}
	resumed = strings.Contains(why, " moved to "+to.Name()+" by ")
	if why != "" && !resumed {
		return false, fmt.Errorf("%s takes no changes any more: %s. Copy from there", from.Name(), why)
	}
	tip, err := from.Tip(ctx)
	if err != nil {
		return false, err
	}
	if tip.Seq == 0 {
		return false, fmt.Errorf("%s has nothing in it", from.Name())
	}
	return resumed, continues(ctx, from, to)
}

// continues refuses a target with a chain of its own.
func continues(ctx context.Context, from, to Side) error {
	had, err := to.Tip(ctx)
	if err != nil || had.Seq == 0 {
		return err
	}
	there, err := from.Entries(ctx, had.Seq, 1)
	if err != nil {
		return err
	}
	if len(there) == 0 || there[0].Seq != had.Seq || there[0].Hash != had.Hash {
		return fmt.Errorf("%s has audit entries that %s does not have, the last one %d: nothing was changed. Copy "+
			"into "+
			"an empty store; if the copy was whole before, keyd may run there", to.Name(), from.Name(), had.Seq)
	}
	return nil
}

// mover is one copy under way.
type mover struct {
	from Side
	to   Target
	held []lease
}

type lease struct {
	on    Side
	epoch term.Epoch
}

// take takes the lease on the new store, and on the old one unless it is closed.
func (m *mover) take(ctx context.Context, holder string, both bool) error {
	sides := []Side{m.to}
	if both {
		sides = []Side{m.from, m.to}
	}
	for _, side := range sides {
		var nonce [16]byte
		_, _ = rand.Read(nonce[:]) // it never fails
		l, err := side.Take(ctx, holder, nonce, leaseTime)
		if err != nil {
			m.release(ctx)
			return fmt.Errorf("take the lease on %s: %w; run systemctl stop keyd on every host first", side.Name(), err)
		}
		m.held = append(m.held, lease{side, l.Epoch})
	}
	return nil
}

func (m *mover) renew(ctx context.Context) error {
	for _, l := range m.held {
		if _, err := l.on.Renew(ctx, l.epoch, leaseTime); err != nil && !errors.Is(err, stored.ErrSealed) {
			return fmt.Errorf("keep the lease on %s: %w", l.on.Name(), err)
		}
	}
	return nil
}

// release ends the leases. One that cannot be ended is soon over by itself.
func (m *mover) release(ctx context.Context) {
	for _, l := range m.held {
		_ = l.on.Release(ctx, l.epoch)
	}
	m.held = nil
}

// epoch is that of the lease on the new store; nil for a copy that needs none.
func (m *mover) epoch() *term.Epoch {
	for _, l := range m.held {
		if l.on == Side(m.to) {
			return &l.epoch
		}
	}
	return nil
}

// copyAll copies until nothing is missing, and verifies it.
func (m *mover) copyAll(ctx context.Context) error {
	for range mostTries {
		missing, err := m.pass(ctx)
		if err != nil {
			return fmt.Errorf("copy from %s to %s: %w", m.from.Name(), m.to.Name(), err)
		}
		if missing > 0 {
			continue
		}
		if err := m.ledgers(ctx); err != nil {
			return fmt.Errorf("copy from %s to %s: %w", m.from.Name(), m.to.Name(), err)
		}
		report, err := verify(ctx, m.to, m.renew)
		if err == nil && !report.Consistent() {
			err = fmt.Errorf("the copy in %s is %s", m.to.Name(), report)
		}
		return err
	}
	return fmt.Errorf("%s changes faster than it can be copied: run systemctl stop keyd on every host, and try again",
		m.from.Name())
}

// ledgers copies those that differ.
func (m *mover) ledgers(ctx context.Context) error {
	all, err := m.from.Ledgers(ctx)
	if err != nil {
		return err
	}
	there, err := m.to.Ledgers(ctx)
	if err != nil {
		return err
	}
	for name, value := range all {
		if string(there[name]) == string(value) {
			continue
		}
		if err := m.to.PutLedger(ctx, name, value); err != nil {
			return err
		}
	}
	return nil
}

// compare requires that both sides have the same chain and the same records.
func (m *mover) compare(ctx context.Context) (Done, error) {
	was, end, err := m.from.Heads(ctx)
	if err != nil {
		return Done{}, err
	}
	is, tip, err := m.to.Heads(ctx)
	if err != nil {
		return Done{}, err
	}
	if tip != end || !maps.Equal(was, is) {
		return Done{}, fmt.Errorf("%s and %s differ after the copy, at entries %d and %d: run the copy again",
			m.from.Name(), m.to.Name(), end.Seq, tip.Seq)
	}
	return Done{From: m.from.Name(), To: m.to.Name(), Entries: tip.Seq, Records: len(is), Head: tip.Hash.String()}, nil
}
