package rotate

import (
	"context"
	"errors"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/term"
)

// AskEnable records that an operator wants a version enabled again. The loop does it at once, also while the key is
// held, and tries for a while unless the vault refuses. The consent to the retire rule ends: keyd disables nothing more
// of the key before an operator consents again.
func (r *Rotator) AskEnable(ctx context.Context, p key.Policy, actor, reason, version string) error {
	return r.askEnable(ctx, r.asking(ctx), p, actor, reason, version)
}

func (r *Rotator) askEnable(ctx context.Context, g *gate, p key.Policy, actor, reason, version string) error {
	err := r.change(ctx, p.Key, func(rec *record.Record) ([]chain.Entry, error) {
		held := rec.WithVersion(version)
		if len(held) == 0 {
			return nil, refuse(
				"key %s has no version %s of keyd's own: keyd status %s lists them",
				p.Key,
				version,
				p.Key,
			)
		}
		at := held[len(held)-1]
		if _, configured := p.Vault(at.Vault); !configured {
			return nil, refuse("version %s of key %s is in vault %s, which is not one of the key's vaults in the "+
				"configuration: put it back, then: keyd reload", version, p.Key, rec.VaultName(p, at.Vault))
		}
		attempt := at.Attempt
		entries, through, err := g.passKey(rec, key.Act{Kind: key.ActEnable, Reason: reason,
			Arguments: map[string]string{"version": version}, Effects: "enables this version in vault " +
				rec.VaultName(p, at.Vault) + " again, and ends the consent to the retire rule"})
		if !through {
			return entries, err
		}
		had, err := rec.AskEnable(record.Enabling{Attempt: attempt, Version: version, At: r.now(), By: actor,
			Reason: reason})
		if err != nil {
			return nil, err
		}
		entries = append(entries, chain.Entry{Event: chain.EnableIntended, Actor: actor,
			Fields: placementFields(rec, attempt, map[string]string{"version": version, "reason": reason})})
		if had {
			entries = append(entries, consentEnded(actor, "an operator enables version "+version+" again"))
		}
		return entries, nil
	})
	return g.outcome(err)
}

// enable enables a version that an operator asked for.
func (r *Rotator) enable(ctx context.Context, a act) (record.Record, error) {
	c, err := r.vault(a.policy, &a.rec, a.step.Vault)
	if err != nil {
		return a.rec, err
	}
	err = r.effectUntil(ctx, "the enabling of version "+a.step.Version, term.Instant{}, r.enablesUntil(a),
		func(ctx context.Context) error { return c.Enable(ctx, a.policy.Key, a.step.Version) })
	if err != nil {
		if key.ClassOf(err) != key.Refused {
			return a.rec, err
		}
		rec, failed := r.enableAborted(ctx, a, err.Error())
		return rec, errors.Join(err, failed)
	}
	return r.enabled(ctx, a)
}

// enablesUntil is the deadline of this try. The request was recorded long ago, perhaps by another daemon; plan gives it
// up no earlier than plan.EnableTries and plan.StepTimeout after it.
func (r *Rotator) enablesUntil(a act) term.Instant {
	now := r.instant()
	asked := a.rec.AskedToEnable(a.step.Attempt, a.step.Version)
	left := asked.Add(plan.EnableTries + plan.StepTimeout).Sub(now.Wall)
	return now.Add(min(left, plan.StepTimeout))
}

// enabled records that the vault has enabled the version.
func (r *Rotator) enabled(ctx context.Context, a act) (record.Record, error) {
	if err := a.rec.Enabled(a.step.Attempt, a.step.Version); err != nil {
		return a.rec, err
	}
	return r.save(ctx, a.rec, chain.Enabled,
		placementFields(&a.rec, a.step.Attempt, map[string]string{"version": a.step.Version}))
}

// enableAborted records that a version was not enabled. An operator may ask again.
func (r *Rotator) enableAborted(ctx context.Context, a act, why string) (record.Record, error) {
	if err := a.rec.AbortEnabling(a.step.Attempt, a.step.Version); err != nil {
		return a.rec, err
	}
	return r.save(ctx, a.rec, chain.EnableAborted,
		placementFields(&a.rec, a.step.Attempt, map[string]string{"version": a.step.Version, "why": why}))
}
