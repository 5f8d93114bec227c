package rotate

import (
	"context"
	"fmt"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/killpoint"
	"github.com/keyd-project/keyd/internal/record"
)

// disable disables one generation's versions in one vault, by its retire rule.
func (r *Rotator) disable(ctx context.Context, a act) (record.Record, error) {
	c, err := r.vault(a.policy, &a.rec, a.step.Vault)
	if err != nil {
		return a.rec, err
	}
	newest, err := c.Newest(ctx, a.policy.Key)
	if err != nil {
		return a.rec, err
	}
	if a.rec.Generation(a.step.Generation).Holds(a.step.Vault, newest.ID) {
		return a.rec, fmt.Errorf("version %s is now the newest in the vault: keyd does not disable it", newest.ID)
	}
	versions, err := a.rec.BeginDisable(a.step.Attempt, a.in().There(r.now()))
	if err != nil {
		return a.rec, err
	}
	if a.rec, err = r.save(ctx, a.rec, chain.DisableIntended,
		placementFields(&a.rec, a.step.Attempt, map[string]string{"why": a.step.Why})); err != nil {
		return a.rec, err
	}
	for _, version := range versions {
		killpoint.At("disable-before")
		if err := c.Disable(ctx, a.policy.Key, version); err != nil {
			return a.rec, err
		}
		killpoint.At("disable-after")
	}
	return r.disabled(ctx, a, nil)
}

// disableDone records what the vault shows of a disabling that was cut short.
func (r *Rotator) disableDone(ctx context.Context, a act) (record.Record, error) {
	return r.disabled(ctx, a, a.in().Enabled())
}

// disabled records that what was begun has happened, but for the versions that are still enabled.
func (r *Rotator) disabled(ctx context.Context, a act, enabled []string) (record.Record, error) {
	if err := a.rec.Disable(a.step.Attempt, r.now(), enabled); err != nil {
		return a.rec, err
	}
	left := a.rec.StillEnabled(a.step.Attempt)
	return r.save(ctx, a.rec, chain.Disabled,
		placementFields(&a.rec, a.step.Attempt, map[string]string{"still_enabled": spaced(left)}))
}

// disableAborted records that a disabling did not happen.
func (r *Rotator) disableAborted(ctx context.Context, a act) (record.Record, error) {
	if err := a.rec.AbortDisable(a.step.Attempt); err != nil {
		return a.rec, err
	}
	return r.save(ctx, a.rec, chain.DisableAborted,
		placementFields(&a.rec, a.step.Attempt, map[string]string{"why": a.step.Why}))
}
