package daemon

import (
	"context"
	"time"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/key"
)

// makeConsumers makes the watcher of those who use the keys, and what reads the vaults' logs.
func (d *Daemon) makeConsumers() {
	policies := d.watched
	d.budget = consumer.NewBudget(consumer.CallsPerSecond, consumer.CallsAtOnce)
	d.consumersSeen = consumer.NewMetrics(d.led)
	d.logs = consumer.NewEvidence(consumer.EvidenceConfig{
		Client: d.logReader, Ledgers: d.store, Keys: policies, Clock: time.Now, Logger: d.log,
	})
	d.consumers = consumer.NewWatcher(consumer.Config{
		Policies: policies, Logs: d.logs.Logs, Ledgers: d.store, Clock: time.Now, Logger: d.log,
	})
}

// watched are the policies of the keys, each with the key that replaces it.
func (d *Daemon) watched() []key.Policy {
	all := d.config().Policies
	if d.rotator == nil { // keyd is being built: it looks at nobody yet
		return all
	}
	var policies []key.Policy
	for _, p := range all {
		if p.AsksUsers() {
			var err error
			if p.Heir, err = d.rotator.Heir(context.Background(), p.Key); err != nil {
				d.log.Warn("keyd does not look at those who use a key, because it cannot read which key replaces it",
					"KEY", p.Key, "error", err.Error())
				continue
			}
		}
		policies = append(policies, p)
	}
	return policies
}

// logReader is the client of the present configuration.
func (d *Daemon) logReader() *consumer.LogClient {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.logClient
}

// keepEvidence reads the vaults' logs until it is told to stop. By then nobody must call a vault any more, so that
// every call of keyd's is saved as its own.
func (d *Daemon) keepEvidence(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = d.logs.Run(ctx)
	}()
	return func() { cancel(); <-done }
}
