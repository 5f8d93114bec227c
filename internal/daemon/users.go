package daemon

import (
	"context"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/trouble"
)

// Consumers shows who uses a key, or each key: by the last look, or with discover by one that is made now.
func (d *Daemon) Consumers(ctx context.Context, name string, discover bool) ([]status.KeyConsumers, error) {
	policies := d.config().Policies
	if name != "" {
		p, err := d.policy(name)
		if err != nil {
			return nil, err
		}
		policies = []key.Policy{p}
	}
	var found map[string]record.Usage
	if discover {
		var err error
		if ctx, err = d.under(ctx); err != nil {
			return nil, err
		}
		found = d.consumers.Discover(ctx, policies)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	at, names := time.Now(), d.vaultNames()
	shown := map[string]*status.Consumers{}
	for _, k := range d.overview(ctx).Keys {
		shown[k.Name] = k.Consumers
	}
	var out []status.KeyConsumers
	for _, p := range policies {
		c := shown[p.Key]
		if u, looked := found[p.Key]; looked {
			rec, err := d.store.Load(ctx, p.Key)
			if err != nil {
				return nil, err
			}
			p.Discover = true
			c = trouble.SeenConsumers(p, &rec, d.observer.Last(p.Key), u, c)
		}
		if c == nil && name == "" {
			continue
		}
		if c == nil {
			c = &status.Consumers{}
		}
		out = append(out, status.KeyConsumers{Key: p.Key, Consumers: *trouble.Explain(at, c, names)})
	}
	return out, nil
}

// vaultNames are the configured vaults' names by URL.
func (d *Daemon) vaultNames() map[string]string {
	names := map[string]string{}
	for _, v := range d.config().Vaults {
		names[v.URL] = v.Name
	}
	return names
}
