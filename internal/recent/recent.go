// Package recent counts what happened in the last while. Its rule: it is told the
// time, and has no clock of its own.
package recent

import (
	"sync"
	"time"
)

// slots is how many parts a span has: a sum may reach back one part too few.
const slots = 30

// Counter counts over a span that ends now.
type Counter struct {
	width time.Duration
	mu    sync.Mutex
	parts [slots]part
}

type part struct {
	number int64 // of the part of time, counted from 1970
	n      int
}

// New returns a counter over a span, which is a whole number of seconds.
func New(span time.Duration) *Counter { return &Counter{width: span / slots} }

func (c *Counter) number(t time.Time) int64 { return t.UnixNano() / int64(c.width) }

// Add counts one more.
func (c *Counter) Add(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	number := c.number(at)
	p := &c.parts[number%slots]
	if p.number != number {
		*p = part{number: number}
	}
	p.n++
}

// Sum is how many were added within the span that ends now. What was added at a later
// time, before the clock was put back, does not count.
func (c *Counter) Sum(now time.Time) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.parts {
		if age := c.number(now) - p.number; age >= 0 && age < slots {
			n += p.n
		}
	}
	return n
}
