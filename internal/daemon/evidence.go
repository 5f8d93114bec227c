package daemon

import (
	"context"
	"fmt"

	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/store/shared"
	"github.com/keyd-project/keyd/internal/trouble"
)

// evidence gathers what problems are derived from, besides the snapshot.
func (d *Daemon) evidence(s status.Snapshot, looks map[string]*trouble.Look) trouble.Evidence {
	d.mu.RLock()
	refused, pace, rights := d.refused, d.cfg.Health, d.rights
	unapproved := len(d.unapproved.changes)
	d.mu.RUnlock()
	e := trouble.Evidence{
		StoreErr: d.store.Healthy(), HeadMissing: headMissing(d.store), ReloadErr: refused, Checkpoint: d.keeper.Last(),
		AuditBroken: d.keeper.Broken(), HSMLosses: d.hsm.Lost(),
		Credential: d.credential().Reread(), Newest: pace.Newest, Older: pace.Older,
		Requests: map[string]trouble.Requests{}, Looks: looks, Config: rights.Digest(),
		Unapproved: unapproved,
	}
	for _, v := range s.Vaults {
		sent, throttled := d.vaultSeen.Recent(v.Name, s.At)
		e.Requests[v.Name] = trouble.Requests{Sent: sent, Throttled: throttled}
	}
	return e
}

// seal has the audit chain's head signed before a version is disabled, once nothing is left of what a store may have
// lost.
func (d *Daemon) seal(ctx context.Context) error {
	if err := d.doubt(ctx); err != nil {
		return err
	}
	_, err := d.keeper.Checkpoint(ctx, "keyd")
	return err
}

// doubt ends every consent to a retire rule if root has accepted a store that lost changes: one of them may have ended
// a consent, or disabled a version.
func (d *Daemon) doubt(ctx context.Context) error {
	why, err := d.store.LoadLedger(ctx, shared.AcceptedLedger)
	if err != nil || len(why) == 0 {
		return err
	}
	why = append([]byte("the store lost changes, and root accepted it as it is: "), why...)
	if err := d.rotator.EndConsents(ctx, "keyd", string(why)); err != nil {
		return fmt.Errorf("end the consents to retire rules, because the store lost changes: %w", err)
	}
	return d.store.SaveLedger(ctx, shared.AcceptedLedger, nil)
}

// breakAccepted ends every consent to a retire rule: the state that root accepted may be an old copy, with a consent
// that had ended since.
func (d *Daemon) breakAccepted(ctx context.Context, why string) error {
	return d.rotator.EndConsents(ctx, "keyd", why)
}
