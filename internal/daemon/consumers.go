package daemon

import (
	"time"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/key"
)

// makeConsumers makes the watcher of those who use the keys.
func (d *Daemon) makeConsumers() {
	ledger, _ := d.store.(consumer.Ledger) // without one, keyd forgets at its end since when a consumer uses a version
	d.consumers = consumer.NewWatcher(consumer.Config{
		Policies: func() []key.Policy { return d.config().Policies },
		Ledger:   ledger, Clock: time.Now, Logger: d.log,
	})
}
