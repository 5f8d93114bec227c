package leader

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

// reign is one term of this host.
type reign struct {
	epoch   term.Epoch
	endless bool
	until   time.Duration // by Boot; only keep changes it, and Elector.mu guards what others see of it
	renew   time.Duration // by Boot, when to renew it

	mu     sync.Mutex
	cancel context.CancelCauseFunc
	ended  error         // why; nil: it goes on
	lost   chan struct{} // closed once the lease is lost: it is neither renewed nor released then
}

// errOver says that the store has not confirmed the lease for as long as it holds.
var errOver = errors.New("the lease could not be renewed in time")

// Class is key.Retry: the term's writes certainly did not happen.
func (e *OverError) Class() key.Class { return key.Retry }

// endless reports whether a lease never ends: the store has no other user.
func endless(l stored.Lease) bool { return l.Left == math.MaxInt64 }

// Holds is how long a term lasts from the moment at which its lease was asked for: a little less than the lease,
// because no two clocks run equally.
func Holds(l stored.Lease, ttl time.Duration) time.Duration { return min(l.Left, ttl) * 19 / 20 }

// begin makes the term that was asked for at that time.
func (e *Elector) begin(at time.Duration, l stored.Lease) *reign {
	return &reign{epoch: l.Epoch, endless: endless(l), until: at + Holds(l, e.TTL), renew: at + e.third(),
		lost: make(chan struct{})}
}

func (e *Elector) third() time.Duration { return e.TTL/3 - e.jitter(e.TTL/30) }

// resign ends a term whose lease is to be released. It reports whether the term had not ended already.
func (r *reign) resign(why error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended != nil {
		return false
	}
	r.ended = why
	r.cancel(why)
	return true
}

// lose ends a term whose lease is another's, or may be.
func (r *reign) lose(why error) {
	r.resign(why)
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.lost:
	default:
		close(r.lost)
	}
}

// over reports whether the term was ended, and did not just see its work ended.
func (r *reign) over() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended != nil
}

// serve leads for one term. over: the term ended before lead was done and before ctx ended.
func (e *Elector) serve(ctx context.Context, r *reign, lead func(context.Context) error) (err error, over bool) {
	var during context.Context
	during, r.cancel = context.WithCancelCause(term.With(ctx, r.epoch))
	defer r.cancel(nil)
	e.show(r)
	// What was begun is finished also at a stop, and the lease is kept until then.
	keeping, stop := context.WithCancel(context.WithoutCancel(ctx))
	var kept sync.WaitGroup
	kept.Go(func() { e.keep(keeping, r) })
	e.Logger.Info("this host leads", "epoch", r.epoch.String())

	err = lead(during)

	over = r.over() && ctx.Err() == nil
	stop()
	kept.Wait()
	e.show(nil)
	e.release(context.WithoutCancel(ctx), r)
	return err, over
}

// show has others see which term is this host's; nil: none.
func (e *Elector) show(r *reign) {
	e.mu.Lock()
	e.reign = r
	e.state.Leads, e.state.Until = r != nil, 0
	if r != nil {
		e.state.Until = r.until
	}
	e.mu.Unlock()
	e.Changed()
}

// release ends the lease, unless it was lost.
func (e *Elector) release(ctx context.Context, r *reign) {
	select {
	case <-r.lost:
		e.Logger.Warn("this host does not lead any more", "epoch", r.epoch.String(), "why", r.ended.Error())
		return
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, e.patience())
	defer cancel()
	if err := e.Store.Release(ctx, r.epoch); err != nil {
		e.Logger.Warn("the lease could not be released, and ends by itself", "epoch", r.epoch.String(),
			"error", err.Error())
		return
	}
	e.Logger.Info("this host has stopped leading", "epoch", r.epoch.String())
}

// answer is what the store said to a renewal.
type answer struct {
	asked time.Duration // by Boot
	lease stored.Lease
	err   error
}

// keep renews the lease until ctx ends or the lease is lost. It waits for no answer of the store: the term ends in time
// whatever the store does.
func (e *Elector) keep(ctx context.Context, r *reign) {
	if r.endless {
		return
	}
	var asking sync.WaitGroup
	defer asking.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers, busy := make(chan answer, 1), false
	for {
		now := e.Boot()
		if now >= r.until {
			r.lose(errOver)
			return
		}
		if !busy && now >= r.renew {
			busy = true
			asking.Go(func() { answers <- e.askRenewal(ctx, r.epoch) })
		}
		select {
		case <-ctx.Done():
			return
		case <-r.lost:
			return
		case a := <-answers:
			busy = false
			if !e.renewed(r, a) {
				return
			}
		// A timer stands still while the host is suspended, so no pause is long.
		case <-e.After(min(r.until-now, e.TTL/10)):
		}
	}
}

// askRenewal asks the store for more time.
func (e *Elector) askRenewal(ctx context.Context, epoch term.Epoch) answer {
	ctx, cancel := context.WithTimeout(ctx, e.TTL/3)
	defer cancel()
	a := answer{asked: e.Boot()}
	a.lease, a.err = e.Store.Renew(ctx, epoch, e.TTL)
	return a
}

// renewed takes an answer over. It reports whether the lease is still this host's.
func (e *Elector) renewed(r *reign, a answer) bool {
	switch {
	case errors.Is(a.err, stored.ErrEpoch):
		r.lose(a.err)
		return false
	case a.err != nil:
		r.renew = e.Boot() + e.TTL/10
		e.fail(a.err)
		return true
	}
	r.until, r.renew = a.asked+Holds(a.lease, e.TTL), a.asked+e.third()
	e.note(a.asked, a.lease, nil)
	e.succeed()
	e.mu.Lock()
	e.state.Until = r.until
	e.mu.Unlock()
	return true
}
