package priority

import (
	"context"
	"slices"
	"sync"
)

// Slots limits how many pieces of work run at once. Waiting work gets a free slot by its class, and within a class in
// the order of arrival.
type Slots struct {
	mu      sync.Mutex
	free    int
	waiting [classes][]chan struct{} // each is closed when its slot is granted
	picker  Picker
}

// NewSlots returns n free slots, at least one.
func NewSlots(n int) *Slots { return &Slots{free: max(1, n)} }

// Acquire waits for a slot, for work of the context's class. After success the caller calls Release once. The only
// error is the context's own; then there is nothing to release.
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
	} else { // it was granted at the same moment
		s.free++
		s.hand()
	}
	return context.Cause(ctx)
}

// Release frees a slot.
func (s *Slots) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free++
	s.hand()
}

// Waiting counts the waiting pieces of work of a class.
func (s *Slots) Waiting(c Class) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting[c])
}

// hand grants the free slots to the work whose turn it is. The caller holds the lock.
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
