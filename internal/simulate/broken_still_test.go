package simulate

import "time"

// standingClocks are clocks that stand still with the process, as those of Go's timers do while a host is suspended.
func standingClocks(w *World, c Parts) Parts {
	clock := c.Clock
	c.Clock = func() time.Time { return clock().Add(-w.stills.lost) }
	c.Boot = func() time.Duration { return w.boot() - w.stills.lost }
	return c
}
