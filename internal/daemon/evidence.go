package daemon

import (
	"context"

	"github.com/keyd-project/keyd/internal/health"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/trouble"
)

// evidence gathers what problems are derived from, besides the snapshot.
func (d *Daemon) evidence(s status.Snapshot) trouble.Evidence {
	d.mu.RLock()
	refused, pace := d.refused, d.cfg.Health
	d.mu.RUnlock()
	e := trouble.Evidence{
		StoreErr: d.store.Healthy(), ReloadErr: refused, Checkpoint: d.keeper.Last(), HSMLosses: d.hsm.Lost(),
		Credential: d.credential().Reread(), Newest: pace.Newest, Older: pace.Older,
		Requests: map[string]trouble.Requests{}, Failing: map[health.ID]bool{}, Looks: map[string]trouble.Look{},
	}
	for _, v := range s.Vaults {
		sent, throttled := d.vaultSeen.Recent(v.Name, s.At)
		e.Requests[v.Name] = trouble.Requests{Sent: sent, Throttled: throttled}
	}
	for _, k := range s.Keys {
		for _, p := range k.Proofs {
			id := health.ID{Key: k.Name, Vault: p.Vault, Version: p.Version}
			e.Failing[id] = d.health.Failing(id)
		}
		if l, ok := d.lastLook(k.Name); ok {
			e.Looks[k.Name] = l
		}
	}
	return e
}

func (d *Daemon) lastLook(name string) (trouble.Look, bool) {
	p, ok := d.loop.Policy(name)
	seen := d.observer.Last(name)
	if !ok || seen == nil {
		return trouble.Look{}, false
	}
	rec, err := d.store.Load(context.Background(), name)
	return trouble.Look{Policy: p, Record: rec, Seen: seen}, err == nil
}
