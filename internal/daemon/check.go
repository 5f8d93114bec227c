package daemon

import (
	"context"
	"errors"

	"github.com/keyd-project/keyd/internal/check"
	"github.com/keyd-project/keyd/internal/hsm"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/priority"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/trouble"
)

// Check tries everything that keyd needs once. It changes nothing.
func (d *Daemon) Check(ctx context.Context) ([]status.Check, error) {
	ctx = priority.With(ctx, priority.Operator)
	return check.Run(ctx, check.Parts{
		ConfigPath: d.opts.ConfigPath, Config: d.config(), Store: d.store, Keys: d.loop, Observer: d.observer,
		Health: d.health, HSM: checkedHSM{d.hsm, d}, Vaults: d.checkVault, Credential: d.credential().Reread(),
		AuditBroken: d.keeper.Broken,
		HSMUnit:     d.hsmUnit(), HSMDownRemedy: trouble.HSMDownRemedy(d.hsmUnit()),
		CertificateSoon: trouble.Of(trouble.CertificateEnds).Threshold, DriftSeverity: trouble.DriftSeverity,
	})
}

// checkedHSM notes what a check sees of the HSM side, so that the status shows it at once.
type checkedHSM struct {
	*hsm.Client
	d *Daemon
}

func (h checkedHSM) Describe(ctx context.Context) (key.HSMInfo, error) {
	seen := h.d.lookAtHSM(ctx)
	return seen.info, errors.Join(seen.err, ctx.Err())
}

func (d *Daemon) checkVault(url string) check.Vault {
	if c := d.client(url); c != nil {
		return c
	}
	return nil
}
