package daemon

import (
	"context"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/trouble"
)

// users knows who uses the keys.
type users interface {
	// Last is what the last look at those who use a key showed; zero: there was none.
	Last(name string) record.Usage
	// Discover looks now at those who use these keys, and searches every subscription that keyd's identity may see. It
	// keeps nothing of it. The usages are by key.
	Discover(ctx context.Context, policies []key.Policy) map[string]record.Usage
}

// nobodyLooks is for a daemon that does not look at those who use the keys.
type nobodyLooks struct{}

func (nobodyLooks) Last(string) record.Usage { return record.Usage{} }

func (nobodyLooks) Discover(context.Context, []key.Policy) map[string]record.Usage { return nil }

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
		found = d.users.Discover(ctx, policies)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	at, names := time.Now(), d.vaultNames()
	shown := map[string]*status.Consumers{}
	for _, st := range d.current(ctx, at) {
		shown[st.key.Name] = st.key.Consumers
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
