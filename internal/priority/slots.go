package priority

import (
	"context"
	"slices"
	"sync"
)

// Slots lets a number of pieces of work go on at once. Those that wait get a free slot by their class, and within a
// class in the order in which they came.
type Slots struct {
	mu      sync.Mutex
	free    int
	waiting [classes][]chan struct{} // closed when the slot is given
	picker  Picker
}

// NewSlots returns n free slots, at least one.
func NewSlots(n int) *Slots { return &Slots{free: max(1, n)} }

// Acquire waits for a slot, for work of the context's class. The caller calls Release once after it. An error is the
// context's own, and then there is nothing to release.
func (s *Slots) Acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	class, given := Of(ctx), make(chan struct{})
	s.mu.Lock()
	s.waiting[class] = append(s.waiting[class], given)
	s.hand()
	s.mu.Unlock()
	select {
	case <-given:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.waiting[class], given); i >= 0 {
		s.waiting[class] = slices.Delete(s.waiting[class], i, i+1)
	} else { // it was given at the same moment
		s.free++
		s.hand()
	}
	return context.Cause(ctx)
}

// Release gives a slot back.
func (s *Slots) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free++
	s.hand()
}

// Waiting is how many pieces of work of a class wait.
func (s *Slots) Waiting(c Class) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting[c])
}

// hand gives the free slots to those whose turn it is. It is called with the lock held.
func (s *Slots) hand() {
	for s.free > 0 {
		c, ok := s.picker.Next(func(c Class) bool { return len(s.waiting[c]) > 0 })
		if !ok {
			return
		}
		close(s.waiting[c][0])
		s.waiting[c] = s.waiting[c][1:]
		s.free--
	}
}
