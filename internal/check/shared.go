package check

import (
	"context"
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// SharedStore is a store for several hosts.
type SharedStore interface {
	Name() string
	Lease(ctx context.Context) (stored.Lease, error)
	// Lost is why nobody may act: the store lacks what this host saw, or a host stopped all of them; nil if neither.
	Lost(ctx context.Context) error
	// Warnings says what an operator should see to on the engine.
	Warnings(ctx context.Context) ([]string, error)
}

// clockOff is how far this host's clock and the store's may be apart. Both leases and deadlines allow for more; an
// ordinary host that asks for the time is within milliseconds.
const clockOff = 5 * time.Second

// storeName is what the lines about the store are about.
func (c *checker) storeName() string {
	if c.Shared != nil {
		return c.Shared.Name()
	}
	return c.Config.StateDir
}

// shared looks at a store for several hosts.
func (c *checker) shared(ctx context.Context, now func() time.Time) {
	if c.Shared == nil {
		return
	}
	name := c.Shared.Name()
	asked := now()
	l, err := c.Shared.Lease(ctx)
	answered := now()
	c.add(
		"store",
		name,
		"answers",
		err,
		leads(l),
		"see that the store runs and that this host reaches it, and the runbook, "+
			"#keydstoreunhealthy",
	)
	if err != nil {
		return
	}
	c.storeClock(name, l.Now, asked, answered)
	c.add("store", name, "has what this host saw", c.Shared.Lost(ctx), "nothing is missing",
		"docs/several-hosts.md says what to do")
	warnings, err := c.Shared.Warnings(ctx)
	if err != nil {
		c.add("store", name, "engine", err, "", "")
		return
	}
	for _, w := range warnings {
		c.warn("store", name, "engine", w, "docs/several-hosts.md says how the engine must be set up")
	}
	if len(warnings) == 0 {
		c.add("store", name, "engine", nil, "nothing to see to", "")
	}
}

func leads(l stored.Lease) string {
	if l.Left <= 0 {
		return "nobody leads"
	}
	return fmt.Sprintf("%s leads, epoch %d", l.Holder, l.Epoch.Number)
}

// storeClock compares the store's clock with this host's, which was read before and after the answer.
func (c *checker) storeClock(name string, store, asked, answered time.Time) {
	if store.IsZero() {
		return
	}
	const line = "clock"
	off := max(asked.Sub(store), store.Sub(answered), 0)
	if off > clockOff {
		c.line(status.CheckWarning, "store", name, line, fmt.Sprintf("this host's clock and the store's are %s apart",
			off.Round(time.Second)), "let both hosts take their time from one source, such as chrony: timedatectl")
		return
	}
	c.add("store", name, line, nil, "agrees with this host's", "")
}
