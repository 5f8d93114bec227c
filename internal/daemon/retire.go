package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/priority"
	"github.com/keyd-project/keyd/internal/status"
)

// Retirements shows what retire rules are to disable: the configured ones, or others.
func (d *Daemon) Retirements(ctx context.Context, q []control.RetireQuestion) ([]status.Retirement, error) {
	all := []status.Retirement{}
	for _, x := range q {
		p, err := d.policy(x.Key)
		if err != nil {
			return nil, err
		}
		rule := p.Retire
		if x.Rule != nil {
			rule = *x.Rule
			p.Vaults = inOrder(p.Vaults, x.Vaults)
			p.Retained, p.Consumers = false, nil // of the configuration that is asked about
		}
		shown, err := d.rotator.Retirement(ctx, p, rule)
		if err != nil {
			return nil, err
		}
		if x.Rule == nil {
			shown.Waiting, err = d.retirementWaits(ctx, p)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, shown)
	}
	return all, nil
}

// inOrder is those of the vaults that the URLs name, in the order of the URLs.
func inOrder(vaults []key.Vault, urls []string) (list []key.Vault) {
	for _, url := range urls {
		if i := slices.IndexFunc(vaults, func(v key.Vault) bool { return v.URL == url }); i >= 0 {
			list = append(list, vaults[i])
		}
	}
	return list
}

// retirementWaits says what the next disabling of a key waits for, by the last look.
func (d *Daemon) retirementWaits(ctx context.Context, p key.Policy) (string, error) {
	rec, err := d.store.Load(ctx, p.Key)
	seen := d.observer.Last(p.Key)
	if err != nil || seen == nil || p.Retire.Never() || p.Retained {
		return "", err
	}
	return plan.RetirementWaits(plan.Input{Now: time.Now(), Policy: p, Record: &rec, Seen: seen}), nil
}

// ConsentToRetire records consent to what Retirements showed with the digest.
func (d *Daemon) ConsentToRetire(ctx context.Context, actor, name, reason, digest string) error {
	p, err := d.policy(name)
	if err != nil {
		return err
	}
	if err := d.agreed(); err != nil {
		return err
	}
	return d.poked(p.Key, d.rotator.ConsentToRetire(d.asked(ctx), p, actor, reason, digest))
}

// Enable records that a version is to be enabled, and waits until the loop has done it.
func (d *Daemon) Enable(ctx context.Context, actor, name, version, reason string) error {
	p, err := d.policy(name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, control.EnableWait)
	defer cancel()
	events := d.hub.subscribe(ctx)
	if err := d.rotator.AskEnable(d.asked(ctx), p, actor, reason, version); err != nil {
		return refusal(err)
	}
	d.loop.Poke(p.Key, priority.Operator)
	last := errors.New("keyd has not come to it")
	for e := range events {
		if e.Key != p.Key || e.Version != version {
			continue
		}
		switch {
		case e.Step == string(plan.Enable) && e.Phase == status.Done:
			return nil
		case e.Phase == status.Failed:
			last = errors.New(e.Error)
			if rec, err := d.store.Load(ctx, p.Key); err == nil && len(rec.Enabling) == 0 {
				return fmt.Errorf(
					"version %s stays disabled: %w; then: keyd enable %s %s --reason …",
					version,
					last,
					p.Key,
					version,
				)
			}
		}
	}
	return fmt.Errorf("version %s is not enabled yet, and keyd goes on trying for %s (keyd status %s): %w", version,
		plan.EnableTries, p.Key, last)
}
