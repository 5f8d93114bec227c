package bolt

import (
	"context"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/store/stored"
	"go.etcd.io/bbolt"
)

// A flush to the disk is what a write costs. So writes that come while another is under way wait, and then share one
// transaction. Each of them succeeds or fails as if it were alone, except that they share the disk's answer.

// maxGroup limits how many writes share a transaction, and so how long the first of them waits.
const maxGroup = 64

// pending is a write that waits for a transaction.
type pending struct {
	fn    func(*bbolt.Tx) error // it must be possible to call it again in another transaction
	alone bool
	done  bool // guarded by Store.writing
	err   error
}

// waiting are the writes that no transaction has taken yet.
type waiting struct {
	mu   sync.Mutex
	list []*pending
}

func (w *waiting) add(p *pending) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append(w.list, p)
}

// take removes the writes that go next in one transaction.
func (w *waiting) take() (next []*pending) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for n < min(len(w.list), maxGroup) && (n == 0 || !w.list[0].alone && !w.list[n].alone) {
		n++
	}
	next, w.list = w.list[:n:n], w.list[n:]
	return next
}

// write runs fn in a write transaction and commits it, if the epoch of ctx is in force. Other writes may share the
// transaction.
func (s *Store) write(ctx context.Context, fn func(*bbolt.Tx) error) error {
	return s.writeAs(ctx, &pending{fn: s.guarded(ctx, fn)})
}

// writeAlone is write in a transaction of its own.
func (s *Store) writeAlone(ctx context.Context, fn func(*bbolt.Tx) error) error {
	return s.writeAs(ctx, &pending{fn: s.guarded(ctx, fn), alone: true})
}

func (s *Store) writeAs(ctx context.Context, p *pending) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.waiting.add(p)
	s.writing.Lock()
	defer s.writing.Unlock()
	for !p.done {
		s.writeGroup(s.waiting.take())
	}
	return p.err
}

// writeGroup writes a group in one transaction. If one of them is refused, each gets a transaction of its own: what it
// wrote before that must not stay. It is called with the lock for writing held.
func (s *Store) writeGroup(group []*pending) {
	refused := false
	err := s.transaction(func(tx *bbolt.Tx) error {
		for _, p := range group {
			if err := p.fn(tx); err != nil {
				refused = true
				return err
			}
		}
		return nil
	})
	if refused && len(group) > 1 && !isCorrupt(err) {
		for _, p := range group {
			s.writeGroup([]*pending{p})
		}
		return
	}
	for _, p := range group {
		p.done, p.err = true, err
	}
}

// transaction runs fn in a write transaction and commits it. It is called with the lock for writing held.
func (s *Store) transaction(fn func(*bbolt.Tx) error) error {
	db, err := s.handle()
	if err != nil {
		return err
	}
	begun := time.Now()
	finished := false
	err = s.guard(func() error {
		err := s.transact(db, fn)
		finished = true
		return err
	})
	s.metrics.Wrote(err, time.Since(begun))

	s.mu.Lock()
	defer s.mu.Unlock()
	s.stuck = s.stuck || !finished
	if !stored.IsConflict(err) {
		s.lastFail = err
	}
	s.metrics.Entries(s.entries)
	return s.rememberLocked(err)
}
