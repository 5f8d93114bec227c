package rotate

import (
	"container/heap"
	"time"

	"github.com/keyd-project/keyd/internal/priority"
)

// queue holds the jobs that no goroutine steps now: those whose time is still to come, by that time, and those that
// are due, by class. It must not be used by two goroutines at once.
type queue struct {
	later  *jobs
	ready  []*jobs // by class
	picker priority.Picker
	count  uint64 // jobs that were put so far
}

func newQueue() *queue {
	q := &queue{later: &jobs{before: dueFirst}}
	for range priority.All() {
		q.ready = append(q.ready, &jobs{before: begunFirst})
	}
	return q
}

// put queues a job until its time. One that is queued already moves.
func (q *queue) put(j *job) {
	q.remove(j)
	q.count++
	j.arrival = q.count
	heap.Push(q.later, j)
}

// remove takes a job out; it does nothing for one that is not queued.
func (q *queue) remove(j *job) {
	if j.in != nil {
		heap.Remove(j.in, j.at)
	}
}

// promote moves the jobs whose time has come to the others of their class.
func (q *queue) promote(now time.Time) {
	for j := q.later.first(); j != nil && !j.due.After(now); j = q.later.first() {
		q.remove(j)
		j.pos.Wake = time.Time{} // awake, and perhaps queued: that is not being stuck
		heap.Push(q.ready[j.class], j)
	}
}

// next takes out the job whose turn it is among those that are due; nil when none is. It leaves out the classes that
// wait.
func (q *queue) next(waits func(priority.Class) bool) *job {
	c, ok := q.picker.Next(func(c priority.Class) bool { return q.ready[c].Len() > 0 && !waits(c) })
	if !ok {
		return nil
	}
	return q.nextOf(c)
}

// nextOf takes out the first job of one class that is due; nil when none is.
func (q *queue) nextOf(c priority.Class) *job {
	j := q.ready[c].first()
	if j != nil {
		q.remove(j)
	}
	return j
}

// dueFirst orders jobs by their time, and those of one time as they came.
func dueFirst(a, b *job) bool {
	if a.due.Equal(b.due) {
		return a.arrival < b.arrival
	}
	return a.due.Before(b.due)
}

// begunFirst orders the jobs of one class that are due. Vaults come first, as many keys may wait for the key exchange
// key of one. Then come the keys that have begun, in the order in which they began: so keyd finishes one key after the
// other.
func begunFirst(a, b *job) bool {
	switch {
	case a.ofVault != b.ofVault:
		return a.ofVault
	case (a.begun > 0) != (b.begun > 0):
		return a.begun > 0
	case a.begun != b.begun:
		return a.begun < b.begun
	}
	return dueFirst(a, b)
}

// jobs is a heap of jobs.
type jobs struct {
	list   []*job
	before func(a, b *job) bool
}

func (h *jobs) first() *job {
	if len(h.list) == 0 {
		return nil
	}
	return h.list[0]
}

// Len is part of heap.Interface.
func (h *jobs) Len() int { return len(h.list) }

// Less is part of heap.Interface.
func (h *jobs) Less(a, b int) bool { return h.before(h.list[a], h.list[b]) }

// Swap is part of heap.Interface.
func (h *jobs) Swap(a, b int) {
	h.list[a], h.list[b] = h.list[b], h.list[a]
	h.list[a].at, h.list[b].at = a, b
}

// Push is part of heap.Interface.
func (h *jobs) Push(x any) {
	j := x.(*job)
	j.in, j.at = h, len(h.list)
	h.list = append(h.list, j)
}

// Pop is part of heap.Interface.
func (h *jobs) Pop() any {
	last := len(h.list) - 1
	j := h.list[last]
	h.list[last] = nil
	h.list = h.list[:last]
	j.in = nil
	return j
}
