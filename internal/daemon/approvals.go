package daemon

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/priority"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/status"
)

// approvals is what the configuration says about acts that need a second operator.
func (d *Daemon) approvals() key.Approvals {
	c := d.config()
	return key.Approvals{
		Acts:   c.Approvals.Acts,
		Wait:   c.Approvals.Wait,
		Self:   uint32(os.Getuid()),
		Config: c.Digest(),
		People: len(c.People) > 0,
	}
}

// asked tells the rotator who is behind a request over the control socket.
func (d *Daemon) asked(ctx context.Context) context.Context {
	if a := control.ActorOf(ctx); a != (control.Actor{}) {
		return rotate.WithPerson(ctx, d.personOf(a))
	}
	return ctx
}

// waits converts an act that became a proposal to the control room's type.
func waits(err error) error {
	if e := new(rotate.ProposedError); errors.As(err, &e) {
		return &control.ProposedError{Text: e.Error()}
	}
	return err
}

// Approve has a proposed act happen.
func (d *Daemon) Approve(ctx context.Context, id key.ID, reason string) error {
	x, err := d.proposal(ctx, id)
	if err != nil {
		return err
	}
	by := d.personOf(control.ActorOf(ctx))
	ctx = priority.With(ctx, priority.Operator)
	if x.Kind == key.ActConfigure {
		return d.approveSettings(ctx, id, by, reason)
	}
	if x.Vault == "" {
		p, err := d.policy(x.Key)
		if err != nil {
			return err
		}
		return d.poked(p.Key, d.rotator.Approve(ctx, p, id, by, reason))
	}
	for _, p := range d.config().VaultPolicies() {
		if p.URL == x.Vault {
			defer d.loop.PokeVault(p.URL, priority.Operator)
			return refusal(d.rotator.ApproveKEK(ctx, p, id, by, reason))
		}
	}
	return &control.RefusedError{Text: "vault " + x.Vault + " is no longer in the configuration: keyd withdraw " +
		string(id) + " --reason …"}
}

// Withdraw ends a proposal.
func (d *Daemon) Withdraw(ctx context.Context, id key.ID, reason string) error {
	x, err := d.proposal(ctx, id)
	if err != nil {
		return err
	}
	actor := control.ActorOf(ctx).String()
	if x.Kind == key.ActConfigure {
		return refusal(d.rotator.WithdrawSettings(ctx, id, actor, reason))
	}
	if x.Vault != "" {
		return refusal(d.rotator.WithdrawKEK(ctx, x.Vault, id, actor, reason))
	}
	return d.poked(x.Key, d.rotator.Withdraw(ctx, x.Key, id, actor, reason))
}

func (d *Daemon) proposal(ctx context.Context, id key.ID) (key.Proposal, error) {
	list := d.proposals(ctx, d.current(ctx, time.Now()))
	if i := slices.IndexFunc(list, func(p key.Proposal) bool { return p.ID == id }); i >= 0 {
		return list[i], nil
	}
	return key.Proposal{}, &control.UsageError{Text: "no proposal " + string(id) +
		" waits: keyd approvals lists those that do"}
}

// proposals are the acts that wait for a second operator, oldest first.
func (d *Daemon) proposals(ctx context.Context, standings []*standing) []key.Proposal {
	list := []key.Proposal{}
	for _, st := range standings {
		list = append(list, st.proposals...)
	}
	for _, v := range d.config().Vaults {
		if rec, err := d.store.LoadVault(ctx, v.URL); err == nil { // showKEKs has the error
			list = append(list, rec.Proposals...)
		}
	}
	if rec, err := d.store.LoadSettings(ctx); err == nil { // a reload has the error
		list = append(list, rec.Proposals...)
	}
	slices.SortStableFunc(list, func(a, b key.Proposal) int { return a.Since.Compare(b.Since) })
	return list
}

// keepProposals shows how many proposals wait and since when, and ends those that nobody approved in time.
func (d *Daemon) keepProposals(ctx context.Context, standings []*standing) {
	list := d.proposals(ctx, standings)
	d.metrics.waiting(list, d.notInForce().since)
	for _, p := range list {
		var err error
		switch {
		case !p.Over(time.Now()):
			continue
		case p.Kind == key.ActConfigure:
			err = d.rotator.EndOldSettingsProposals(ctx)
		case p.Vault != "":
			err = d.rotator.EndOldKEKProposals(ctx, p.Vault)
		default:
			err = d.rotator.EndOldProposals(ctx, p.Key)
		}
		if err != nil && ctx.Err() == nil {
			d.log.Warn("a proposal that is over was not ended; keyd tries again", "proposal", string(p.ID),
				"error", err.Error())
		}
	}
}

// subjectsOf gives vaults their names, for people.
func subjectsOf(list []key.Proposal, vaults []status.Vault) []status.Proposal {
	shown := make([]status.Proposal, len(list))
	for i, p := range list {
		shown[i] = status.Proposal{Proposal: p}
		for _, v := range vaults {
			if v.URL == p.Vault {
				shown[i].VaultName = v.Name
			}
		}
	}
	return shown
}
