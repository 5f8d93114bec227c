package rotate

import (
	"context"
	"fmt"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

// Retirement shows what a retire rule is to disable of a key, and whether an operator consented to it. It changes
// nothing. The rule need not be the configured one.
func (r *Rotator) Retirement(ctx context.Context, p key.Policy, rule key.RetireRule) (status.Retirement, error) {
	rec, err := r.load(ctx, p.Key)
	if err != nil {
		return status.Retirement{}, err
	}
	list := plan.Retirements(r.now(), p, rule, &rec)
	shown := status.Retirement{
		Key: p.Key, DisableAfter: int64(rule.DisableAfter.Seconds()), Pause: int64(rule.Between().Seconds()),
		Never: rule.Never(), Digest: plan.RetireDigest(p.Key, rule, list), Versions: []status.Retiring{},
		Consented: rec.ConsentsTo(rule), UnusedFor: int64(rule.UnusedFor.Seconds()),
		Backups: int64(rule.Backups.Seconds()), NoConsumers: rule.NoConsumers,
	}
	for _, c := range p.Consumers {
		shown.Consumers = append(shown.Consumers, c.ID)
	}
	for _, x := range list {
		covered := rec.ConsentsTo(rule) && rec.Consent.Covers(x.Retirable)
		shown.Consented = shown.Consented && covered
		shown.Versions = append(shown.Versions, status.Retiring{Vault: rec.VaultName(p, x.Vault), Version: x.Version,
			Generation: x.Generation.Number, Since: x.Since, At: x.At, Consented: covered})
	}
	if c := rec.Consent; rec.ConsentsTo(rule) {
		shown.Consent = &status.Consent{At: c.At, By: c.By, Reason: c.Reason, Digest: c.Digest}
	}
	return shown, nil
}

// ConsentToRetire records an operator's consent to the key's configured retire rule, and to the versions that it is to
// disable, as Retirement showed them under the digest.
func (r *Rotator) ConsentToRetire(ctx context.Context, p key.Policy, actor, reason, digest string) error {
	return r.consentToRetire(ctx, r.asking(ctx), p, actor, reason, digest)
}

func (r *Rotator) consentToRetire(ctx context.Context, g *gate, p key.Policy, actor, reason, digest string) error {
	if p.Retained || p.Retire.Never() {
		return refuse("key %s has no retire rule: write retire: {disable_after: …} under it in the configuration, "+
			"then: keyd reload", p.Key)
	}
	err := r.change(ctx, p.Key, func(rec *record.Record) ([]chain.Entry, error) {
		list := plan.Retirements(r.now(), p, p.Retire, rec)
		switch {
		case rec.Hold != nil:
			return nil, refuse("key %s is held (%s): %s", p.Key, rec.Hold.Code, rec.Hold.Reason)
		case rec.Replacement != nil:
			return nil, refuse(
				"key %s is being replaced by %s, and its retire rule rests: keyd replace %s --status",
				p.Key,
				rec.Replacement.With,
				p.Key,
			)
		case len(rec.Unlisted(p)) > 0:
			left := rec.Unlisted(p)[0]
			return nil, refuse(
				"the replacement of key %s sets consumer %s to key %s: write its id under consumers of %s in "+
					"the configuration, then: keyd reload",
				left.From,
				left.Consumer,
				p.Key,
				p.Key,
			)
		case plan.RetireDigest(p.Key, p.Retire, list) != digest:
			return nil, refuse(
				"key %s or its retire rule has changed since it was shown: look again with keyd retire %s",
				p.Key,
				p.Key,
			)
		}
		before, through, err := g.passKey(rec, key.Act{Kind: key.ActRetire, Reason: reason,
			Arguments: map[string]string{
				"digest": digest,
			}, Effects: fmt.Sprintf("keyd disables a version %s after it "+
				"was superseded, now %s; keyd retire %s lists them", p.Retire.DisableAfter,
				words.Count(len(list), "version"), p.Key)})
		if !through {
			return before, err
		}
		rec.Inherits = nil // the configuration names all of them
		rec.Consented(record.Consent{Rule: p.Retire, Digest: digest, At: r.now(), By: actor, Reason: reason})
		for _, x := range list {
			rec.Consent.Versions = append(rec.Consent.Versions, x.Version)
		}
		return append(before, chain.Entry{Event: chain.RetireConsented, Actor: actor,
			Fields: withFields(ruleFields(p.Retire), map[string]string{"reason": reason, "digest": digest,
				"versions": spaced(rec.Consent.Versions)})}), nil
	})
	return g.outcome(err)
}

// EndConsents ends every key's consent to its retire rule, because the state lacks changes: an old copy was put in its
// place, or the store lost them. Before the next disabling of such a key there is a pause.
func (r *Rotator) EndConsents(ctx context.Context, actor, why string) error {
	names, err := r.Store.Names(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		rec, err := r.load(ctx, name)
		if err != nil {
			return err
		}
		if !rec.HasConsent() {
			continue
		}
		if err := r.change(ctx, name, func(rec *record.Record) ([]chain.Entry, error) {
			rec.Doubt(r.now())
			return []chain.Entry{consentEnded(actor, why)}, nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// endConsent ends the consent to a retire rule that is no longer the configured one.
func (r *Rotator) endConsent(ctx context.Context, a act) (record.Record, error) {
	a.rec.EndConsent()
	return r.saveAll(ctx, a.rec, []chain.Entry{consentEnded("keyd", a.step.Why)})
}

func consentEnded(actor, why string) chain.Entry {
	return chain.Entry{Event: chain.RetireConsentEnded, Actor: actor, Fields: map[string]string{"why": why}}
}
