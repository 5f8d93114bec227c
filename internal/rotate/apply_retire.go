package rotate

import (
	"context"
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/killpoint"
)

// disable switches one generation's versions in one vault off, by its retire
// rule.
func (r *Rotator) disable(ctx context.Context, p key.Policy, rec key.Record, seen VaultSeen, s Step) (key.Record, error) {
	c, err := r.vault(p, s.Vault)
	if err != nil {
		return rec, err
	}
	newest, err := c.Newest(ctx, p.Key)
	if err != nil {
		return rec, err
	}
	if sameMaterial(rec.Generation(s.Generation), s.Vault, newest.ID) {
		return rec, fmt.Errorf("version %s is the newest in the vault by now: it is not disabled", newest.ID)
	}
	for _, at := range superseded(&rec, s) {
		at.DisableBegun = seen.there(r.now())
	}
	if rec, err = r.save(ctx, rec, "disabling intended", placementFields(rec, s.Attempt, map[string]string{"why": s.Why})); err != nil {
		return rec, err
	}
	for _, at := range superseded(&rec, s) {
		for _, version := range at.Versions() {
			killpoint.At("disable-before")
			if err := c.Disable(ctx, p.Key, version); err != nil {
				return rec, err
			}
			killpoint.At("disable-after")
		}
	}
	return r.disabled(ctx, rec, s)
}

// disabled records that what was begun has happened.
func (r *Rotator) disabled(ctx context.Context, rec key.Record, s Step) (key.Record, error) {
	for _, at := range superseded(&rec, s) {
		if !at.DisableBegun.IsZero() {
			at.State, at.DisabledAt, at.DisableBegun = key.Disabled, r.now(), time.Time{}
		}
	}
	return r.save(ctx, rec, "disabled", placementFields(rec, s.Attempt, nil))
}

// keep records that what was begun did not happen.
func (r *Rotator) keep(ctx context.Context, rec key.Record, s Step) (key.Record, error) {
	for _, at := range superseded(&rec, s) {
		at.DisableBegun = time.Time{}
	}
	return r.save(ctx, rec, "disabling did not happen", placementFields(rec, s.Attempt, map[string]string{"why": s.Why}))
}

// superseded is every superseded placement of the step's generation in its vault.
func superseded(rec *key.Record, s Step) (out []*key.Placement) {
	g := rec.Generation(s.Generation)
	for i := range g.Placements {
		if at := &g.Placements[i]; at.Vault == s.Vault && at.State == key.Superseded {
			out = append(out, at)
		}
	}
	return out
}
