package arm

import (
	"context"
	"time"
)

// Poll makes each consumer that is due by Config.Now look for a new version of its key,
// and applies pending specs again.
func (s *Service) Poll(ctx context.Context) {
	for _, c := range s.all() {
		c.poll(ctx, false)
	}
}

// PollNow makes every consumer look, due or not.
func (s *Service) PollNow(ctx context.Context) {
	for _, c := range s.all() {
		c.poll(ctx, true)
	}
}

func (c *consumer) poll(ctx context.Context, now bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.service.cfg.Now()
	if c.pending != nil && (now || !at.Before(c.nextTry)) {
		_ = c.apply(ctx) // in c.trouble
	}
	if c.paused || c.key == (keyRef{}) || !c.looks() || (!now && at.Before(c.nextLook)) {
		return
	}
	c.trouble = c.lookOnce(ctx)
	if c.trouble != nil {
		c.service.cfg.Logger.Info("a consumer has trouble with its key", "consumer", c.name, "error", c.trouble)
	}
}

// looks reports whether the consumer has anything to do by itself.
func (c *consumer) looks() bool { return c.kind.delay > 0 || len(c.previous) > 0 }

// lookOnce follows the key to its newest version, if configured, and checks that the
// version in use works.
func (c *consumer) lookOnce(ctx context.Context) error {
	c.schedule(max(c.kind.delay, c.kind.moving))
	switch {
	case len(c.previous) > 0:
		c.rotationError = c.finish(ctx)
	case c.follows && !c.stuck():
		c.rotationError = c.follow(ctx)
	}
	if c.rotationError != nil {
		return c.rotationError
	}
	if err := c.followGeo(ctx); err != nil {
		return err
	}
	return c.usable(ctx)
}

func (c *consumer) schedule(delay time.Duration) {
	c.nextLook = c.service.cfg.Now().Add(c.service.scaled(delay))
}

// stuck reports a disk encryption set with an autoKeyRotationError: it does not rotate
// again until somebody changes the set.
func (c *consumer) stuck() bool { return c.kind.inSteps && c.rotationError != nil }

func (c *consumer) follow(ctx context.Context) error {
	newest, err := c.service.look(ctx, c.identity, c.key.at(""))
	if err != nil || newest.version == c.active.version {
		return err
	}
	return c.adopt(ctx, c.key.at(newest.version))
}

// usable unwraps a data key under the version in use.
func (c *consumer) usable(ctx context.Context) error {
	for _, k := range c.keys {
		if k.under == c.active {
			_, err := c.open(ctx, k)
			return err
		}
	}
	return nil
}
