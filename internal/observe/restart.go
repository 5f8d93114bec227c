package observe

import "time"

// Restart forgets all that was seen, as a new process does: whoever led meanwhile may have changed it.
func (o *Observer) Restart() {
	o.cache.restart()
	o.inventory.mu.Lock()
	o.inventory.at, o.inventory.objects, o.inventory.err = time.Time{}, nil, nil
	o.inventory.mu.Unlock()
	o.sweeps.mu.Lock()
	defer o.sweeps.mu.Unlock()
	clear(o.sweeps.of)
}

func (c *cache) restart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.last)
	clear(c.used)
	clear(c.shown)
	clear(c.down)
	clear(c.facts)
	clear(c.vaults)
	clear(c.empty)
	clear(c.answer)
}
