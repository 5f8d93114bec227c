package emulator

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// remembered is how far back a rule's Stale can reach.
const remembered = time.Hour

// history holds a vault's present and past states. The present state is immutable and
// read without a lock, so that callers do not wait for each other; a change creates a
// new one. The past is stored as what each change replaced.
type history struct {
	present atomic.Pointer[state]

	mu      sync.Mutex // held by changes, and to look back
	past    []moment   // oldest first
	journal *journal   // nil: memory only
}

// moment is one change, as the slots that it replaced.
type moment struct {
	at     time.Time
	before []slot
}

// slot is what one lower-case name refers to: a key, a deleted key or neither.
type slot struct {
	name    string
	key     *entry
	deleted *deletedEntry
}

// state maps lower-case names to keys.
type state struct {
	keys    map[string]*entry
	deleted map[string]*deletedEntry
	now     func() time.Time
}

func newState(now func() time.Time) *state {
	return &state{map[string]*entry{}, map[string]*deletedEntry{}, now}
}

func newHistory(now func() time.Time) *history {
	h := &history{}
	h.present.Store(newState(now))
	return h
}

func (s *state) clone() *state {
	return &state{maps.Clone(s.keys), maps.Clone(s.deleted), s.now}
}

func (s *state) slot(name string) slot { return slot{name, s.keys[name], s.deleted[name]} }

// fill sets a slot in the state.
func (s *state) fill(c slot) {
	delete(s.keys, c.name)
	delete(s.deleted, c.name)
	if c.key != nil {
		s.keys[c.name] = c.key
	}
	if c.deleted != nil {
		s.deleted[c.name] = c.deleted
	}
}

// differing returns the names that refer to something else in other.
func (s *state) differing(other *state) []string {
	names := map[string]bool{}
	for _, side := range []*state{s, other} {
		for name := range side.keys {
			if s.keys[name] != other.keys[name] {
				names[name] = true
			}
		}
		for name := range side.deleted {
			if s.deleted[name] != other.deleted[name] {
				names[name] = true
			}
		}
	}
	return slices.Collect(maps.Keys(names))
}

// current returns the state that writes see.
func (v *Vault) current() *state { return v.present.Load() }

// replica returns the state that reads see: on a Managed HSM the one
// Options.ReplicationDelay ago, and under a rule with Stale the one that long ago.
func (v *Vault) replica() *state {
	lag := v.lag()
	if lag == 0 {
		return v.current()
	}
	return v.lookBack(v.opts.Now().Add(-lag))
}

func (v *Vault) lag() time.Duration {
	if v.config.Profile != ManagedHSM {
		return v.stale
	}
	return v.opts.ReplicationDelay + v.stale
}

// lookBack undoes the changes made after horizon.
func (h *history) lookBack(horizon time.Time) *state {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.present.Load().clone()
	for _, m := range slices.Backward(h.past) {
		if !m.at.After(horizon) {
			break
		}
		for _, c := range m.before {
			s.fill(c)
		}
	}
	return s
}

// change applies f to a copy of the present state and, unless f or the state
// file fails, makes the copy present.
func (v *Vault) change(f func(*state) error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	old := v.present.Load()
	next := old.clone()
	if err := f(next); err != nil {
		return err
	}
	names := old.differing(next)
	if v.journal != nil {
		if err := v.journal.append(v.config.Host, names, old, next); err != nil {
			return err
		}
	}
	now := v.opts.Now()
	m := moment{at: now}
	for _, name := range names {
		m.before = append(m.before, old.slot(name))
	}
	v.past = append(v.forget(now.Add(-v.lag()-remembered)), m)
	v.present.Store(next)
	return nil
}

// forget returns the past without the changes before horizon.
func (h *history) forget(horizon time.Time) []moment {
	n := 0
	for n < len(h.past) && h.past[n].at.Before(horizon) {
		n++
	}
	return h.past[n:]
}
