// Package recent counts events within a recent span of time. Its rule: the caller passes the time; the package reads
// no clock.
package recent

import (
	"sync"
	"time"
)

// slots is the number of parts in a span. A sum may miss up to one part at the start of the span.
const slots = 30

// Counter counts over a span that ends now.
type Counter struct {
	width time.Duration
	mu    sync.Mutex
	parts [slots]part
}

type part struct {
	number int64 // parts since 1970
	n      int
}

// New returns a counter over a span, a whole number of seconds.
func New(span time.Duration) *Counter { return &Counter{width: span / slots} }

func (c *Counter) number(t time.Time) int64 { return t.UnixNano() / int64(c.width) }

// Add counts one event.
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

// Sum is the number of events within the span that ends now. Events in the future, added before the clock went back,
// do not count.
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
