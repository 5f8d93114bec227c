package move

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

// Store is one side of a move.
type Store interface {
	// Name says where it is, for people; no two stores have one name.
	Name() string
	// Heads are those of all records, with the end of the chain.
	Heads(ctx context.Context) (map[string]stored.Head, stored.Tip, error)
	// Sealed is why the store takes no changes any more, "" if it does.
	Sealed(ctx context.Context) (why string, err error)

	Take(ctx context.Context, holder string, nonce [16]byte, ttl time.Duration) (stored.Lease, error)
	Renew(ctx context.Context, e term.Epoch, ttl time.Duration) (stored.Lease, error)
	Release(ctx context.Context, e term.Epoch) error
}

// Source is a store that a state leaves.
type Source interface {
	Store
	stored.Walker
	// HashAt is the hash of an entry; zero for none.
	HashAt(ctx context.Context, seq uint64) (chain.Hash, error)
	// Seal has the store refuse every change from now on, and say why.
	Seal(ctx context.Context, why string) error
}

// Target is a store that receives a state.
type Target interface {
	Store
	// Begin has keyd refuse the store until Finish.
	Begin(ctx context.Context) error
	// Fill copies what from has and the store lacks, and verifies the store. Its own chain is the beginning of that of
	// from.
	Fill(ctx context.Context, from stored.Walker) error
	Finish(ctx context.Context) error
}

// Done is what was moved.
type Done struct {
	From    string `json:"from"`
	To      string `json:"to"`
	Entries uint64 `json:"entries"`
	Records int    `json:"records"`
	Head    string `json:"head"`
}

// Order says on which host somebody moves a state. Now is the time.
type Order struct {
	Host string
	Now  func() time.Time
}

// leaseTime is longer than the copy of anything that is sent at once.
const leaseTime = time.Minute

// Move takes the lease on both stores, copies and verifies everything, closes the old one, copies what came meanwhile,
// and lets keyd use the new one.
func Move(ctx context.Context, from Source, to Target, o Order) (Done, error) {
	resumed, err := usable(ctx, from, to)
	if err != nil {
		return Done{}, err
	}
	m := &mover{from: from, to: to, now: o.Now}
	if err := m.take(ctx, "keyd store copy on "+o.Host, !resumed); err != nil {
		return Done{}, err
	}
	defer m.release(context.WithoutCancel(ctx))
	if err := to.Begin(ctx); err != nil {
		return Done{}, err
	}
	if err := m.fill(ctx); err != nil {
		return Done{}, err
	}
	if !resumed {
		why := fmt.Sprintf("its state was moved to %s by keyd store copy on %s at %s", to.Name(), o.Host,
			o.Now().UTC().Format(time.RFC3339))
		if err := from.Seal(ctx, why); err != nil {
			return Done{}, fmt.Errorf("close %s: %w", from.Name(), err)
		}
		if err := m.fill(ctx); err != nil {
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

// usable refuses what cannot be moved to the other. resumed: the old store was closed for this very move.
func usable(ctx context.Context, from Source, to Target) (resumed bool, err error) {
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
	_, end, err := from.Heads(ctx)
	if err == nil && end.Seq == 0 {
		err = fmt.Errorf("%s has nothing in it", from.Name())
	}
	if err != nil {
		return false, err
	}
	return resumed, continues(ctx, from, to)
}

// continues refuses a target with a chain of its own.
func continues(ctx context.Context, from Source, to Target) error {
	_, had, err := to.Heads(ctx)
	if err != nil || had.Seq == 0 {
		return err
	}
	hash, err := from.HashAt(ctx, had.Seq)
	if err == nil && hash != had.Hash {
		err = fmt.Errorf(
			"%s has audit entries that %s does not have, the last one %d: nothing was changed. Copy into an "+
				"empty store; if the copy was whole before, keyd may run there",
			to.Name(),
			from.Name(),
			had.Seq,
		)
	}
	return err
}

// mover is one move under way.
type mover struct {
	from Source
	to   Target
	now  func() time.Time

	held    []lease
	renewed time.Time
}

type lease struct {
	on    Store
	epoch term.Epoch
	to    bool // of the new store
}

// take takes the lease on the new store, and on the old one unless it is closed.
func (m *mover) take(ctx context.Context, holder string, both bool) error {
	sides := []lease{{on: m.to, to: true}}
	if both {
		sides = append([]lease{{on: m.from}}, sides...)
	}
	for _, side := range sides {
		var nonce [16]byte
		_, _ = rand.Read(nonce[:]) // it never fails
		l, err := side.on.Take(ctx, holder, nonce, leaseTime)
		if err != nil {
			m.release(ctx)
			return fmt.Errorf(
				"take the lease on %s: %w; run systemctl stop keyd on every host first",
				side.on.Name(),
				err,
			)
		}
		side.epoch = l.Epoch
		m.held = append(m.held, side)
	}
	m.renewed = m.now()
	if both {
		return m.areTwo(ctx)
	}
	return nil
}

// areTwo refuses one store under two names, such as a database by way of other hosts. To close it would close both. Who
// takes the lease of one store twice has only the second one.
func (m *mover) areTwo(ctx context.Context) error {
	old := m.held[0]
	_, err := old.on.Renew(ctx, old.epoch, leaseTime)
	if err != nil {
		m.release(ctx)
	}
	if errors.Is(err, stored.ErrEpoch) {
		return fmt.Errorf("%s is the same store as %s: nothing was copied, and nothing need be. Name two stores; "+
			"where only the way to it changes, change the configuration of each host", m.to.Name(), m.from.Name())
	}
	return err
}

// renew keeps the leases, now and then.
func (m *mover) renew(ctx context.Context) error {
	if now := m.now(); now.Sub(m.renewed) < leaseTime/4 {
		return nil
	}
	m.renewed = m.now()
	for _, l := range m.held {
		if _, err := l.on.Renew(ctx, l.epoch, leaseTime); err != nil && !errors.Is(err, stored.ErrSealed) {
			return fmt.Errorf("keep the lease on %s: %w; run the copy again", l.on.Name(), err)
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

// fill copies what the new store lacks, under its lease.
func (m *mover) fill(ctx context.Context) error {
	for _, l := range m.held {
		if l.to {
			ctx = term.With(ctx, l.epoch)
		}
	}
	if err := m.to.Fill(ctx, walked{m}); err != nil {
		return fmt.Errorf("copy from %s to %s: %w", m.from.Name(), m.to.Name(), err)
	}
	return nil
}

// walked is the old store; to walk through it keeps the leases.
type walked struct{ m *mover }

func (w walked) Walk(ctx context.Context, v stored.Visitor) error {
	return w.m.from.Walk(ctx, visitor{ctx, v, w.m})
}

type visitor struct {
	ctx context.Context
	stored.Visitor
	m *mover
}

func (v visitor) Entry(l chain.Linked) error {
	return errors.Join(v.m.renew(v.ctx), v.Visitor.Entry(l))
}

// compare requires that both stores have the same chain and the same records.
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
	return Done{
		From:    m.from.Name(),
		To:      m.to.Name(),
		Entries: tip.Seq,
		Records: len(is),
		Head:    tip.Hash.String(),
	}, nil
}
