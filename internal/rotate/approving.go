package rotate

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// Approve has a proposed act about a key happen, for the operator who asked for it, if a second one may approve it and
// everything is as it was when it was proposed.
func (r *Rotator) Approve(ctx context.Context, p key.Policy, id key.ID, by key.Person, reason string) error {
	rec, err := r.load(ctx, p.Key)
	if err != nil {
		return err
	}
	x, waits := rec.Proposals.Find(id)
	if !waits {
		return refuse("no proposal %s waits for key %s: keyd approvals lists those that do", id, p.Key)
	}
	g := &gate{r: r, by: by, approves: id, reason: reason}
	asker := x.By.Actor
	switch x.Kind {
	case key.ActResume:
		return r.resume(ctx, g, p.Key, asker, x.Reason)
	case key.ActRepoint:
		return r.askRepoint(ctx, g, p, asker, x.Reason, strings.Fields(x.Arguments["consumers"]))
	case key.ActEnable:
		return r.askEnable(ctx, g, p, asker, x.Reason, x.Arguments["version"])
	case key.ActRetire:
		return r.consentToRetire(ctx, g, p, asker, x.Reason, x.Arguments["digest"])
	case key.ActReplace:
		if digest := x.Arguments["disable"]; digest != "" {
			return r.consentToDisable(ctx, g, p, asker, x.Reason, digest)
		}
		return r.replace(ctx, g, p, asker, x.Reason, Replacing{With: x.Arguments["with"], Vault: x.Arguments["vault"],
			Digest: x.Arguments["digest"]})
	case key.ActAdopt:
		return r.adopt(ctx, g, p, asker, x.Reason, x.Arguments["token"])
	case key.ActCompromise:
		w := Wanted{Actor: asker, Reason: x.Reason, Compromise: true, Without: strings.Fields(x.Arguments["without"])}
		_, err := r.requestAll(ctx, g, []key.Policy{p}, []Wanted{w})
		return err
	}
	return fmt.Errorf("this version of keyd cannot carry out proposal %s, %s %s: withdraw it: keyd withdraw %[1]s "+
		"--reason …", id, x.Kind, p.Key)
}

// ApproveKEK is Approve for the request of a new KEK.
func (r *Rotator) ApproveKEK(ctx context.Context, p key.VaultPolicy, id key.ID, by key.Person, reason string) error {
	rec, err := r.loadVault(ctx, p.URL)
	if err != nil {
		return err
	}
	x, waits := rec.Proposals.Find(id)
	if !waits || x.Kind != key.ActKEK {
		return refuse("no proposal %s waits for vault %s: keyd approvals lists those that do", id, p.Name)
	}
	_, _, err = r.requestKEK(ctx, &gate{r: r, by: by, approves: id, reason: reason}, p, x.By.Actor, x.Reason)
	return err
}

// Withdraw ends a proposal about a key. Any operator may: it only keeps an act from happening.
func (r *Rotator) Withdraw(ctx context.Context, name string, id key.ID, actor, reason string) error {
	return r.change(ctx, name, func(rec *record.Record) ([]chain.Entry, error) {
		return withdraw(&rec.Proposals, id, actor, reason)
	})
}

// WithdrawKEK is Withdraw for a vault.
func (r *Rotator) WithdrawKEK(ctx context.Context, url string, id key.ID, actor, reason string) error {
	return r.changeVault(ctx, url, func(rec *record.Vault) ([]chain.Entry, error) {
		return withdraw(&rec.Proposals, id, actor, reason)
	})
}

func withdraw(list *record.Proposals, id key.ID, actor, reason string) ([]chain.Entry, error) {
	p, waits := list.Find(id)
	if !waits {
		return nil, refuse("no proposal %s waits any more: keyd approvals lists those that do", id)
	}
	list.Remove(id)
	return []chain.Entry{proposalEnded(chain.ProposalWithdrawn, actor, p, reason)}, nil
}

// EndOldProposals ends those of a key that nobody approved in time.
func (r *Rotator) EndOldProposals(ctx context.Context, name string) error {
	return r.change(ctx, name, func(rec *record.Record) ([]chain.Entry, error) {
		return dropOver(&rec.Proposals, r.now()), nil
	})
}

// EndOldKEKProposals is EndOldProposals for a vault.
func (r *Rotator) EndOldKEKProposals(ctx context.Context, url string) error {
	return r.changeVault(ctx, url, func(rec *record.Vault) ([]chain.Entry, error) {
		return dropOver(&rec.Proposals, r.now()), nil
	})
}

// spacedSorted joins a list whose order says nothing.
func spacedSorted(list []string) string {
	list = slices.Clone(list)
	slices.Sort(list)
	return strings.Join(list, " ")
}
