package hsm

import (
	"errors"

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
		e.tok.reportMended("the handles of "+string(id)+" no longer show it, and the pair is looked up again", err)
	}
	p, err := s.lookUp(id, e.own)
	if err == nil {
		e.remember(id, p)
	}
	return p, err
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

// use notes that a pair is about to be made under an id. asked: it was noted before. vacant: the last look showed
// nothing there.
func (e *engine) use(id key.ID) (asked, vacant bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	asked, vacant = e.asked[id], e.vacant[id]
	e.asked[id] = true
	delete(e.vacant, id)
	return asked, vacant
}
