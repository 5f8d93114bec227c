package daemon

import (
	"context"
	"fmt"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/plan"
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
	return d.poked(p.Key, d.rotator.AskRepoint(d.asked(ctx), p, actor, reason, consumers))
}

// moveConsumer has a consumer use another version. It asks through the client of the present configuration.
func (d *Daemon) moveConsumer(ctx context.Context, m rotate.Move) error {
	d.mu.RLock()
	resources := d.resources
	d.mu.RUnlock()
	return resources.Repoint(ctx, consumer.Move{ID: m.Consumer, Vault: m.Vault.URL, Key: m.Key, From: m.From,
		NewVault: m.NewVault.URL, NewKey: m.NewKey, Version: m.Version})
}

// shownMoves are the moves of a key's consumers that have not ended well.
func shownMoves(in plan.Input) (list []status.Move) {
	for _, m := range plan.Moves(in) {
		shown := status.Move{Consumer: m.Consumer, Name: service.NameOf(m.Consumer), State: status.MoveState(m.State),
			Since: m.Since, By: m.By, Vault: m.Vault, From: m.From, To: m.To, NewKey: m.NewKey, Why: m.Why}
		if shown.Bad() {
			shown.Command = fmt.Sprintf("keyd repoint %s %s --reason …", in.Policy.Key, shown.Name)
			if m.NewKey != "" {
				shown.Command = fmt.Sprintf("keyd replace %s --with %s --reason …", in.Policy.Key, m.NewKey)
			}
		}
		list = append(list, shown)
	}
	return list
}
