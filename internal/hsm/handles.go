package hsm

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// The HSM side remembers the handles of pairs, because a search costs more the more objects a token has. Generate,
// Find, Inventory and every search fill the memory. A look that shows anything but one whole pair empties it for that
// id.

// onPair calls f with the pair, whose handles may be remembered from before. If they turn out to be stale, onPair looks
// the pair up again and calls f once more.
func onPair[T any](e *engine, s session, id key.ID, f func(pair) (T, error)) (T, error) {
	if p, ok := e.recall(id); ok {
		got, err := f(p)
		if !handleLost(err) && !IsCode(err, Incomplete) { // a module may give a handle to another object
			return got, err
		}
		e.forget(id)
		e.tok.reportMended("the handles of "+string(id)+" were lost, and the pair is looked up again", err)
	}
	p, err := s.lookUp(id, e.own)
	if err != nil {
		var zero T
		return zero, err
	}
	e.remember(id, p)
	return f(p)
}

// present returns the pair with this id as it reads back now. It reads by the handles that keyd remembers. If these do
// not show the whole pair, it searches: a module may give a handle to another object.
func (e *engine) present(s session, id key.ID) (pair, error) {
	if p, ok := e.recall(id); ok {
		p, err := s.readAgain(id, e.own, p)
		var problem *Error
		if err == nil || !handleLost(err) && !errors.As(err, &problem) {
			return p, err
		}
		e.forget(id)
		e.reportStale(id, err)
	}
	p, err := s.lookUp(id, e.own)
	if err == nil {
		e.remember(id, p)
	}
	return p, err
}

func (e *engine) reportStale(id key.ID, err error) {
	e.tok.reportMended("the handles of "+string(id)+" no longer show it, and the pair is looked up again", err)
}

func (e *engine) recall(id key.ID) (pair, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p, ok := e.handles[id]
	return p, ok
}

func (e *engine) remember(id key.ID, p pair) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.handles[id] = p
	delete(e.vacant, id)
}

// rememberAll replaces all handles by those of a pass over the whole token.
func (e *engine) rememberAll(pairs map[key.ID]pair) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.handles = pairs
}

func (e *engine) forget(id key.ID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.handles, id)
	delete(e.vacant, id)
}

// maxVacant bounds the ids that are remembered as vacant: a caller may look at any number of them.
const maxVacant = 1000

// noteVacant notes that there is nothing under an id.
func (e *engine) noteVacant(id key.ID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.handles, id)
	if len(e.vacant) >= maxVacant {
		clear(e.vacant)
	}
	e.vacant[id] = true
}

// idsAtOnce is how many ids one call draws. maxDrawn bounds those that are remembered: a caller may ask for any number.
// An id counts as drawn for drawnFor: after longer, somebody may have carried the records to another host.
const (
	idsAtOnce = 32
	maxDrawn  = 4096
	drawnFor  = 10 * time.Minute
)

// NewIDs draws ids for pairs to come. They are random, so nothing is under them, and only this process makes pairs
// there. It draws none where several hosts use the store: another host's HSM side may have made the pair.
func (e *engine) NewIDs(context.Context) ([]key.ID, error) {
	if !e.alone() {
		return nil, nil
	}
	ids := make([]key.ID, idsAtOnce)
	for i := range ids {
		var err error
		if ids[i], err = key.NewID(rand.Reader); err != nil {
			return nil, err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.drawn)+len(ids) > maxDrawn {
		clear(e.drawn)
	}
	for _, id := range ids {
		e.drawn[id] = time.Now()
	}
	return ids, nil
}

// alone reports whether no other HSM side makes pairs for the same records.
func (e *engine) alone() bool {
	by, err := e.permitted()
	return err == nil && !by.shared()
}

// drewFor reports whether this process drew an id for a pair just now, and was not asked for one under it.
func (e *engine) drewFor(id key.ID) bool {
	if !e.alone() {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	at, ok := e.drawn[id]
	return ok && time.Since(at) < drawnFor
}

// use notes that a pair is about to be made under an id. asked: it was noted before. vacant: this process drew the id,
// or the last look showed nothing there.
func (e *engine) use(id key.ID) (asked, vacant bool) {
	drew := e.drewFor(id)
	e.mu.Lock()
	defer e.mu.Unlock()
	asked, vacant = e.asked[id], e.vacant[id] || drew
	e.asked[id] = true
	delete(e.vacant, id)
	delete(e.drawn, id)
	return asked, vacant
}
