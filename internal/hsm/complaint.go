package hsm

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A caller can have any number of calls fail, and systemd's journal drops the lines of a service that writes too many.
// Then the line of a wrap could be among those that are dropped. So what callers do wrong has few lines.
const (
	complaintsAtOnce = 100
	complaintEvery   = time.Second // after those
)

// complaints logs what callers do wrong, within that bound. Its zero value is ready.
type complaints struct {
	mu      sync.Mutex
	limit   *rate.Limiter
	dropped int
}

// log writes a line, or only counts it: the next line says how many were not written.
func (c *complaints) log(ctx context.Context, to *slog.Logger, message string, args ...any) {
	dropped, may := c.take(time.Now())
	if !may {
		return
	}
	if dropped > 0 {
		args = append(args, "not_logged_before", dropped)
	}
	to.WarnContext(ctx, message, args...)
}

func (c *complaints) take(now time.Time) (dropped int, may bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.limit == nil {
		c.limit = rate.NewLimiter(rate.Every(complaintEvery), complaintsAtOnce)
	}
	if !c.limit.AllowN(now, 1) {
		c.dropped++
		return 0, false
	}
	dropped, c.dropped = c.dropped, 0
	return dropped, true
}
