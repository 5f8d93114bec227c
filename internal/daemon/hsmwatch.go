package daemon

import (
	"context"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// hsmState is the HSM side as last seen.
type hsmState struct {
	up    bool
	since time.Time // when it last went up or down, or became able or unable to work
	err   error
	info  key.HSMInfo
	seen  time.Time // when it last answered
}

const (
	hsmPoll  = 15 * time.Second       // between two looks at an HSM side that can work
	hsmRetry = 2 * time.Second        // at one that cannot work, or does not answer
	hsmGone  = 100 * time.Millisecond // before the look after one that answered has ended
)

// watchHSM asks the HSM side for its state until ctx ends, and notices at once when it ends.
func (d *Daemon) watchHSM(ctx context.Context) {
	for ctx.Err() == nil {
		pause := hsmRetry
		switch seen := d.lookAtHSM(ctx); {
		case seen.works():
			d.awaitHSMEnd(ctx, hsmPoll)
			pause = hsmGone
		case seen.up:
			d.awaitHSMEnd(ctx, hsmRetry)
			pause = hsmGone
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// awaitHSMEnd returns after limit, or when the HSM side is to be looked at again, or as soon as the HSM side has ended,
// which it notes.
func (d *Daemon) awaitHSMEnd(ctx context.Context, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	go func() {
		select {
		case <-d.hsmAgain:
			cancel()
		case <-d.hsm.Turned():
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := d.hsm.AwaitEnd(ctx); err != nil && ctx.Err() == nil {
		d.noteHSM(key.HSMInfo{}, err)
	}
}

func (d *Daemon) lookAtHSM(ctx context.Context) hsmState {
	info, err := d.hsm.Describe(ctx)
	if ctx.Err() != nil {
		return hsmState{}
	}
	return d.noteHSM(info, err)
}

// works reports whether the HSM side can work, as last seen.
func (s hsmState) works() bool { return s.up && s.info.Degraded == "" }

// noteHSM notes what the HSM side said about itself, or why it did not answer. Once it can work again, it has the keys
// stepped that wait for it.
func (d *Daemon) noteHSM(info key.HSMInfo, err error) hsmState {
	was, next := d.changeHSM(info, err)
	if next.works() && !was.works() {
		d.loop.HSMBack()
	}
	return next
}

func (d *Daemon) changeHSM(info key.HSMInfo, err error) (was, next hsmState) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	was = d.hsmSeen
	next = hsmState{up: err == nil, since: was.since, err: err, info: was.info, seen: was.seen}
	if next.up {
		next.info, next.seen = info, now
	}
	d.histories.Answered(now, next.works())
	if was.since.IsZero() || was.up != next.up || (was.info.Degraded == "") != (next.info.Degraded == "") ||
		was.info.Config != next.info.Config {
		next.since = now
		d.touch()
	}
	switch first := was.since.IsZero(); {
	case next.up && (first || !was.up):
		d.log.Info("the HSM side is up", "token", info.Token, "model", info.Model, "wrap", info.Wrap)
	case !next.up && (first || was.up):
		d.log.Error("the HSM side is down", "error", err.Error())
	}
	if next.up && info.Degraded != "" && info.Degraded != was.info.Degraded {
		d.log.Error("the HSM side cannot work", "reason", info.Degraded)
	}
	d.metrics.hsmDiffers.Set(0)
	if next.up && next.info.Config != d.rights.Digest() {
		d.metrics.hsmDiffers.Set(1)
	}
	d.hsmSeen = next
	return was, next
}

// hsmUnit is the systemd unit whose journal has the HSM side's log.
func (d *Daemon) hsmUnit() string {
	if d.sup != nil {
		return unitOfDaemon
	}
	return unitOfHSM
}

const (
	unitOfDaemon = "keyd"
	unitOfHSM    = "keyd-hsm"
)

// units returns the systemd units of both sides, according to any of these configurations.
func units(cfgs ...*config.Config) string {
	if slices.ContainsFunc(cfgs, func(c *config.Config) bool { return c.HSM.Socket != "" }) {
		return unitOfDaemon + " " + unitOfHSM
	}
	return unitOfDaemon
}

func (d *Daemon) hsmStatus() status.HSM {
	d.mu.RLock()
	defer d.mu.RUnlock()
	seen := d.hsmSeen
	h := status.HSM{
		Up: seen.up, Since: seen.since, Info: seen.info, SeenAt: seen.seen, Unit: d.hsmUnit(),
		History: d.histories.OfHSM(time.Now()),
	}
	if seen.err != nil {
		h.Error = seen.err.Error()
	}
	return h
}
