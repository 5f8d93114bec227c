package rotate

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/killpoint"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

// disable disables one version, by the retire rule. The plan has seen the newest version proven in this very step, and
// that nobody who uses the key needs the older one.
func (r *Rotator) disable(ctx context.Context, a act) (record.Record, error) {
	if a.rec.Replacement.Disabling() {
		return r.disableReplaced(ctx, a)
	}
	c, err := r.vault(a.policy, &a.rec, a.step.Vault)
	if err != nil {
		return a.rec, err
	}
	newest, err := c.Newest(ctx, a.policy.Key)
	if err != nil {
		return a.rec, err
	}
	proven := a.in().Proof
	if newest.ID != proven.Version || a.rec.Generation(a.step.Generation).Holds(a.step.Vault, newest.ID) {
		return a.rec, fmt.Errorf("version %s is now the newest in the vault, and keyd proved %s: it disables nothing",
			newest.ID, proven.Version)
	}
	return r.disableOne(ctx, a, c, map[string]string{"newest": newest.ID,
		"newest_proven": proven.At.UTC().Format(time.RFC3339), "consent": a.rec.Consent.Digest})
}

// disableOne disables the step's version on this evidence.
func (r *Rotator) disableOne(ctx context.Context, a act, c Vault, evidence map[string]string) (record.Record, error) {
	if err := r.seal(ctx); err != nil {
		return a.rec, err
	}
	begun := r.instant()
	err := a.rec.BeginDisable(a.step.Attempt, a.step.Version,
		record.Moment{Here: begun.Wall, There: a.in().Clock(begun.Wall)})
	if err != nil {
		return a.rec, err
	}
	evidence = withFields(evidence, withFields(a.userFields(), map[string]string{"why": a.step.Why,
		"version": a.step.Version}))
	if a.rec, err = r.save(ctx, a.rec, chain.DisableIntended,
		placementFields(&a.rec, a.step.Attempt, evidence)); err != nil {
		return a.rec, err
	}
	killpoint.At("disable-before")
	err = r.effect(ctx, "the disabling of version "+a.step.Version, begun, plan.StepTimeout,
		func(ctx context.Context) error { return c.Disable(ctx, a.policy.Key, a.step.Version) })
	if err != nil {
		return a.rec, err
	}
	killpoint.At("disable-after")
	return r.disabled(ctx, a, nil)
}

// seal has the audit chain signed. Whoever put an old copy of the state in its place gets no signature: that copy may
// have a consent that has ended since.
func (r *Rotator) seal(ctx context.Context) error {
	if r.Seal == nil {
		return nil
	}
	if err := r.Seal(ctx); err != nil {
		return fmt.Errorf("keyd disables nothing while the audit chain cannot be signed: %w", err)
	}
	return nil
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
		placementFields(&a.rec, a.step.Attempt, map[string]string{"version": a.step.Version,
			"still_enabled": spaced(left)}))
}

// disableLate records that a disabling which keyd had given up happened all the same, and asks for its undoing.
func (r *Rotator) disableLate(ctx context.Context, a act) (record.Record, error) {
	had, err := a.rec.CameLate(a.step.Attempt, record.Enabling{Attempt: a.step.Attempt, Version: a.step.Version,
		At: r.now(), By: "keyd", Reason: a.step.Why})
	if err != nil {
		return a.rec, err
	}
	fields := placementFields(&a.rec, a.step.Attempt, map[string]string{"version": a.step.Version, "why": a.step.Why})
	entries := []chain.Entry{{Event: chain.DisabledLate, Actor: "keyd", Fields: fields},
		{Event: chain.EnableIntended, Actor: "keyd", Fields: maps.Clone(fields)}}
	if had {
		entries = append(entries, consentEnded("keyd", a.step.Why))
	}
	return r.saveAll(ctx, a.rec, entries)
}

// disableAborted records that a disabling did not happen.
func (r *Rotator) disableAborted(ctx context.Context, a act) (record.Record, error) {
	if err := a.rec.AbortDisable(a.step.Attempt); err != nil {
		return a.rec, err
	}
	return r.save(ctx, a.rec, chain.DisableAborted,
		placementFields(&a.rec, a.step.Attempt, map[string]string{"version": a.step.Version, "why": a.step.Why}))
}
