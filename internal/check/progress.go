package check

import (
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/keyd-project/keyd/internal/status"
)

// steps counts what is done of something, and tells it.
type steps struct {
	tell func(status.Progress)
	mu   sync.Mutex
	at   status.Progress
}

// begin begins with something that a check goes through.
func (p Parts) begin(what string, of int) *steps {
	return &steps{tell: p.Tell, at: status.Progress{Of: of, What: what}}
}

// done counts one more. It is safe for concurrent use.
func (s *steps) done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at.Done++
	if s.tell != nil {
		s.tell(s.at)
	}
}

// atOnce does something for each of a list, several at once, and tells how far it is.
func atOnce[T any](c *checker, what string, list []T, do func(T)) {
	step := c.begin(what, len(list))
	var g errgroup.Group
	g.SetLimit(consumersAtOnce)
	for _, x := range list {
		g.Go(func() error {
			do(x)
			step.done()
			return nil
		})
	}
	_ = g.Wait() // nothing fails: what was found has its own errors
}
