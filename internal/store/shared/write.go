package shared

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

// A round trip, and on the engine a flush to several disks, is what a write costs. So writes that come while another is
// under way wait, and then share one change. Each of them succeeds or fails as if it were alone, except that they share
// the engine's answer.

// maxTries is how often a change is linked anew because another host was first.
const maxTries = 40

// pending is a write that waits.
type pending struct {
	parts []part
	epoch *term.Epoch // nil: anybody's
	done  chan struct{}
	err   error // valid when done is closed, as are the revisions in parts
}

// finish tells who waits.
func (p *pending) finish(err error) {
	p.err = err
	close(p.done)
}

// waiting are the writes that no change has taken yet.
type waiting struct {
	mu   sync.Mutex
	list []*pending
}

func (w *waiting) add(p *pending) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append(w.list, p)
}

// drop takes a write back; false if a change has it already.
func (w *waiting) drop(p *pending) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.list, p)
	if i < 0 {
		return false
	}
	w.list = slices.Delete(w.list, i, i+1)
	return true
}

// take removes the writes that go next in one change: as many as every engine takes, under at most one epoch.
func (w *waiting) take() (next []*pending) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var size sizes
	var epoch *term.Epoch
	n := 0
	for ; n < len(w.list); n++ {
		p := w.list[n]
		if epoch != nil && p.epoch != nil && *epoch != *p.epoch || !size.add(p) && n > 0 {
			break
		}
		if p.epoch != nil {
			epoch = p.epoch
		}
	}
	next, w.list = w.list[:n:n], w.list[n:]
	return next
}

// sizes adds up what a change would have.
type sizes struct{ bytes, records, entries int }

// add adds a write, and reports whether every engine takes it all.
func (z *sizes) add(p *pending) bool {
	for _, part := range p.parts {
		if part.change != nil {
			z.records++
			z.bytes += stored.HeadSize + len(part.change.body)
		}
		z.entries += len(part.entries)
		z.bytes += part.size
	}
	return z.bytes <= stored.MaxChange && z.records <= stored.MaxRecords && z.entries <= stored.MaxEntries
}

// write makes a change of these parts, or nothing of them. Other writes may be in the same change.
func (s *Store) write(ctx context.Context, parts ...part) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p := &pending{parts: parts, done: make(chan struct{})}
	if e, ok := term.Of(ctx); ok {
		p.epoch = &e
	} else if err := onlyAnybodys(parts); err != nil {
		return err
	}
	s.waiting.add(p)
	for {
		select {
		case <-p.done:
			return p.err
		case <-ctx.Done():
			if s.waiting.drop(p) {
				return ctx.Err()
			}
			<-p.done // it is under way, and ends
			return p.err
		case s.writing <- struct{}{}:
			if group := s.waiting.take(); len(group) > 0 {
				s.writeGroup(ctx, group)
			}
			<-s.writing
		}
	}
}

// ErrLeaders says that a write without an epoch has an entry that only the daemon that leads records.
var ErrLeaders = errors.New("is recorded only by the daemon that leads, under its epoch")

// onlyAnybodys refuses what only the daemon that leads records.
func onlyAnybodys(parts []part) error {
	for _, part := range parts {
		for _, e := range part.entries {
			if !e.Event.Anybodys() {
				return fmt.Errorf("%q %w", e.Event, ErrLeaders)
			}
		}
	}
	return nil
}

// writeGroup makes one change of the writes, and tells each of them. It is called by one goroutine at a time.
func (s *Store) writeGroup(ctx context.Context, group []*pending) {
	// Others wait for this change, too: it does not end with the caller that happens to make it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*s.engine.time)
	defer cancel()
	begun := time.Now()
	left, err := s.change(ctx, group)
	if len(left) > 0 {
		s.wrote(err, time.Since(begun))
	}
	if len(left) > 1 && errors.Is(err, stored.ErrEpoch) { // those that are anybody's need not share it
		for _, p := range left {
			s.writeGroup(ctx, []*pending{p})
		}
		return
	}
	for _, p := range left {
		p.finish(s.explained(p, err))
	}
}

// explained is the engine's refusal as the store's users know it.
func (s *Store) explained(p *pending, err error) error {
	if p.epoch != nil {
		err = late(*p.epoch, err)
	}
	return s.sealed(err)
}

// sealed is the engine's refusal of every change as the store's users know it.
func (s *Store) sealed(err error) error {
	if errors.Is(err, stored.ErrSealed) {
		return &SealedError{Engine: s.engine.Name(), Err: err}
	}
	return err
}

func (s *Store) wrote(err error, took time.Duration) {
	s.metrics.Wrote(err, took)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !stored.IsConflict(err) {
		s.lastFail = err
	}
}

// change links the writes after the end of the chain and commits them, again and again while other hosts are first.
// What is refused for what is in the store it tells at once; it returns the other writes, with what became of them.
func (s *Store) change(ctx context.Context, group []*pending) (left []*pending, err error) {
	if s.isClosed() {
		return group, stored.ErrClosed
	}
	fresh := false // whether what is known was followed for this change
	for try := 1; ; try++ {
		change, refused, err := s.link(group)
		if err != nil {
			return group, err
		}
		if len(refused) > 0 && !fresh { // perhaps only because of what is not known yet
			if err := s.follow(ctx); err != nil {
				return group, err
			}
			fresh = true
			continue
		}
		group = slices.DeleteFunc(slices.Clone(group), func(p *pending) bool { return refused[p] != nil })
		for p, why := range refused {
			s.wrote(why, 0)
			p.finish(why)
		}
		if len(group) == 0 {
			return nil, nil
		}
		// Only now: what the change follows is what was looked at.
		if err := s.writable(ctx); err != nil {
			return group, err
		}
		err = s.commit(ctx, change)
		if moved := errors.Is(err, stored.ErrTip) || errors.Is(err, stored.ErrRecord); !moved {
			return group, err
		}
		if err := s.again(ctx, try, change, err); err != nil {
			return group, err
		}
		fresh = true
	}
}

// again waits a moment, so that another host may end what it is about, and follows it. It gives up after maxTries. A
// record that is not the newest one in a chain that did not move is damaged.
func (s *Store) again(ctx context.Context, try int, c stored.Change, cause error) error {
	if try >= maxTries {
		return &stored.EngineError{Engine: s.engine.Name(), Err: cause,
			Doing: fmt.Sprintf("save a change, before which other hosts came %d times", try)}
	}
	if try > 1 {
		s.pause(ctx, rand.N(time.Duration(min(try, 10))*5*time.Millisecond))
	}
	if err := s.follow(ctx); err != nil {
		return err
	}
	if errors.Is(cause, stored.ErrRecord) && s.known.state(nil).tip == c.Tip {
		return s.damaged("a record is not the one that the chain ends with: %v", cause)
	}
	return nil
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
