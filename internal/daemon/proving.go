package daemon

import (
	"context"
	"time"
)

// probe proves versions once keyd has looked at every vault in this term.
func (d *Daemon) probe(ctx context.Context, looked <-chan struct{}) error {
	select {
	case <-ctx.Done():
		return nil
	case <-looked:
	}
	d.proving.Lock()
	defer d.proving.Unlock()
	d.health.Restart()
	d.health.Run(ctx)
	return nil
}

// keepProving goes on with the proofs while no host leads and this one was the last: a store that is away, or that
// takes no changes, must not hide a version that fails.
func (d *Daemon) keepProving(ctx context.Context) {
	for sleep(ctx, hostsTick) {
		if !d.lastInCharge() {
			continue
		}
		during, stop := context.WithCancel(ctx)
		go func() {
			defer stop()
			for d.lastInCharge() && sleep(during, hostsTick) {
			}
		}()
		d.proving.Lock()
		d.health.Run(during)
		d.proving.Unlock()
		stop()
	}
}

// lastInCharge reports whether this host was the last that led, and no host has for longer than a failover takes.
func (d *Daemon) lastInCharge() bool {
	since := d.hosts.leaderlessSince()
	return !since.IsZero() && time.Since(since) > 2*d.lease && !d.leads() && d.inCharge()
}
