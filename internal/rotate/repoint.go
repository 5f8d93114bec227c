package rotate

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/killpoint"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

// AskRepoint records that an operator wants consumers of a key moved to the newest version: those named by their
// resource id or its last part, or without a name all that the configuration says keyd moves. The loop moves them one
// after the other. It also clears away a repointing that failed.
func (r *Rotator) AskRepoint(ctx context.Context, p key.Policy, actor, reason string, consumers []string) error {
	return r.askRepoint(ctx, r.asking(ctx), p, actor, reason, consumers)
}

func (r *Rotator) askRepoint(ctx context.Context, g *gate, p key.Policy, actor, reason string,
	consumers []string) error {
	ids, err := consumersOf(p, consumers)
	if err != nil {
		return err
	}
	err = r.change(ctx, p.Key, func(rec *record.Record) ([]chain.Entry, error) {
		before, through, err := g.passKey(rec, key.Act{Kind: key.ActRepoint, Reason: reason,
			Arguments: map[string]string{"consumers": strings.Join(ids, " ")},
			Effects:   "keyd sets these consumers to the newest version of the key in their vault"})
		if !through {
			return before, err
		}
		var asked []record.RepointRequest
		for _, id := range ids {
			asked = append(asked, record.RepointRequest{Consumer: id, At: r.now(), By: actor, Reason: reason})
		}
		rec.AskRepoint(asked...)
		return append(before, chain.Entry{Event: chain.RepointRequested, Actor: actor,
			Fields: map[string]string{"consumers": strings.Join(ids, " "), "reason": reason}}), nil
	})
	return g.outcome(err)
}

// consumersOf finds configured consumers by their ids or the last part of them; none named stands for all that keyd
// moves.
func consumersOf(p key.Policy, names []string) (ids []string, err error) {
	for _, c := range p.Consumers {
		if len(names) == 0 && c.Follow == key.FollowKeyd {
			ids = append(ids, c.ID)
		}
	}
	for _, name := range names {
		i := slices.IndexFunc(p.Consumers, func(c key.Consumer) bool {
			return strings.EqualFold(c.ID, name) || strings.EqualFold(c.ID[strings.LastIndexByte(c.ID, '/')+1:], name)
		})
		if i < 0 {
			return nil, refuse("key %s has no consumer %s in the configuration: add its resource id under consumers, "+
				"then: keyd reload", p.Key, name)
		}
		ids = append(ids, p.Consumers[i].ID)
	}
	if len(ids) == 0 {
		return nil, refuse("key %s has no consumer that keyd moves: name one, or write follow: keyd beside it in the "+
			"configuration", p.Key)
	}
	return ids, nil
}

// repoint moves one consumer. The plan has seen, in this very step, what it is set to, and the version proven.
func (r *Rotator) repoint(ctx context.Context, a act) (record.Record, error) {
	if r.Repoint == nil {
		return a.rec, errors.New("this process moves no consumers")
	}
	vault, _ := a.policy.Vault(a.step.Vault)
	m := Move{Consumer: a.step.Consumer, Vault: vault, Key: a.policy.Key, From: a.step.From, Version: a.step.Version}
	if a.step.NewKey != "" {
		m.NewKey = a.step.NewKey
		m.NewVault, _ = a.newKey.Policy.Vault(a.step.NewVault)
	}
	begun := r.instant()
	if err := a.rec.BeginRepoint(record.Repointing{Consumer: m.Consumer, Vault: vault.URL, From: m.From,
		Version: m.Version, NewKey: m.NewKey, NewVault: m.NewVault.URL, At: begun.Wall}); err != nil {
		return a.rec, err
	}
	fields := repointFields(a.rec.Repointing, map[string]string{"why": a.step.Why})
	rec, err := r.save(ctx, a.rec, chain.RepointIntended, fields)
	if err != nil {
		return rec, err
	}
	a.rec = rec
	killpoint.At("repoint-before")
	err = r.effect(ctx, "the moving of consumer "+m.Consumer, begun, plan.RepointTimeout,
		func(ctx context.Context) error { return r.Repoint(ctx, m) })
	killpoint.At("repoint-after")
	switch {
	case err == nil:
		return r.repointed(ctx, a)
	case key.ClassOf(err) == key.Refused:
		rec, failed := r.repointFailed(ctx, a, err.Error())
		return rec, errors.Join(err, failed)
	case key.ClassOf(err) == key.Retry:
		rec, failed := r.repointVoid(ctx, a, err.Error())
		return rec, errors.Join(err, failed)
	}
	return a.rec, err // what the consumer shows settles it
}

// repointVoid records that the service certainly did not begin.
func (r *Rotator) repointVoid(ctx context.Context, a act, why string) (record.Record, error) {
	fields := repointFields(a.rec.Repointing, map[string]string{"why": why})
	if err := a.rec.VoidRepoint(); err != nil {
		return a.rec, err
	}
	return r.save(ctx, a.rec, chain.RepointVoid, fields)
}

// repointed records that the consumer uses the version.
func (r *Rotator) repointed(ctx context.Context, a act) (record.Record, error) {
	fields := repointFields(a.rec.Repointing, nil)
	if err := a.rec.Repointed(r.now()); err != nil {
		return a.rec, err
	}
	return r.save(ctx, a.rec, chain.Repointed, fields)
}

// repointFailed records that the consumer did not move. It stops the others.
func (r *Rotator) repointFailed(ctx context.Context, a act, why string) (record.Record, error) {
	fields := repointFields(a.rec.Repointing, map[string]string{"why": why})
	if err := a.rec.FailRepoint(why); err != nil {
		return a.rec, err
	}
	return r.save(ctx, a.rec, chain.RepointFailed, fields)
}

// repointMet records that a request has nothing to move.
func (r *Rotator) repointMet(ctx context.Context, a act) (record.Record, error) {
	a.rec.MeetRepoint(a.step.Consumer)
	return r.save(ctx, a.rec, chain.RepointMet, withFields(map[string]string{"consumer": a.step.Consumer,
		"vault": a.step.Vault, "version": a.step.Version, "why": a.step.Why}, nil))
}

// repointLapsed records that a request counts no more.
func (r *Rotator) repointLapsed(ctx context.Context, a act) (record.Record, error) {
	a.rec.LapseRepoint(a.step.Consumer, r.now(), a.step.Why)
	return r.save(ctx, a.rec, chain.RepointLapsed, map[string]string{"consumer": a.step.Consumer, "why": a.step.Why})
}

func repointFields(x *record.Repointing, more map[string]string) map[string]string {
	if x == nil {
		return more
	}
	fields := map[string]string{"consumer": x.Consumer, "vault": x.Vault, "from": x.From, "version": x.Version}
	if x.NewKey != "" {
		fields["new_key"], fields["new_vault"] = x.NewKey, x.NewVault
	}
	return withFields(fields, more)
}
