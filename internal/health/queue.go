package health

import (
	"container/heap"
	"time"
)

// queue is the subjects of one vault that wait for their proof, the one due first at its head. So a turn costs what it
// begins, however many versions there are.
type queue struct {
	configured bool // the configuration has the vault: its subjects are proven
	busy       int  // proofs under way
	waiting    waiting
}

// schedule puts a subject at the place of its next proof. One whose proof is under way is put there when that ends.
func (q *queue) schedule(now time.Time, pace Pace, t *tracked) {
	if t.running > 0 {
		return
	}
	t.due = t.dueAt(now, pace)
	if t.queued >= 0 {
		heap.Fix(&q.waiting, t.queued)
		return
	}
	heap.Push(&q.waiting, t)
}

// remove takes a subject out, if it is in there.
func (q *queue) remove(t *tracked) {
	if t.queued >= 0 {
		heap.Remove(&q.waiting, t.queued)
	}
}

// reschedule puts every subject at its place anew, such as after the clock was put back.
func (q *queue) reschedule(now time.Time, pace Pace) {
	for _, t := range q.waiting {
		t.due = t.dueAt(now, pace)
	}
	heap.Init(&q.waiting)
}

// next is the subject to prove now, the most overdue one; nil when none is due.
func (q *queue) next(now time.Time) *tracked {
	if len(q.waiting) == 0 || q.waiting[0].due.After(now) {
		return nil
	}
	return q.waiting[0]
}

// waiting is a heap by the times at which its subjects are due.
type waiting []*tracked

func (w waiting) Len() int           { return len(w) }
func (w waiting) Less(i, j int) bool { return w[i].due.Before(w[j].due) }
func (w waiting) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].queued, w[j].queued = i, j
}

// Push is for container/heap.
func (w *waiting) Push(x any) {
	t := x.(*tracked)
	t.queued = len(*w)
	*w = append(*w, t)
}

// Pop is for container/heap.
func (w *waiting) Pop() any {
	last := len(*w) - 1
	t := (*w)[last]
	(*w)[last], *w = nil, (*w)[:last]
	t.queued = -1
	return t
}
