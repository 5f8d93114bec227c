package daemon

import (
	"context"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/service"
	"github.com/keyd-project/keyd/internal/status"
)

// Repoint records that consumers of a key are to be moved to the newest version. The loop moves them.
func (d *Daemon) Repoint(ctx context.Context, actor, name, reason string, consumers []string) error {
	p, err := d.policy(name)
	if err != nil {
		return err
	}
	return d.poked(p.Key, d.rotator.AskRepoint(asked(ctx), p, actor, reason, consumers))
}

// moveConsumer has a consumer use another version. It asks through the client of the present configuration.
func (d *Daemon) moveConsumer(ctx context.Context, m rotate.Move) error {
	d.mu.RLock()
	resources := d.resources
	d.mu.RUnlock()
	return resources.Repoint(ctx, consumer.Move{ID: m.Consumer, Vault: m.Vault.URL, Key: m.Key, From: m.From,
		NewVault: m.NewVault.URL, NewKey: m.NewKey, Version: m.Version})
}

func shownRepointing(r *record.Repointing) *status.Repointing {
	if r == nil {
		return nil
	}
	return &status.Repointing{Consumer: r.Consumer, Name: service.NameOf(r.Consumer), Vault: r.Vault, From: r.From,
		Version: r.Version, NewKey: r.NewKey, At: r.At, Failed: r.Failed}
}
