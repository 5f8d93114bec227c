package daemon

import (
	"context"
	"fmt"
	"strings"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/priority"
	"github.com/keyd-project/keyd/internal/status"
)

// vaultPolicy is what the configuration asks for the vault with this nickname.
func (d *Daemon) vaultPolicy(name string) (key.VaultPolicy, error) {
	var names []string
	for _, p := range d.config().VaultPolicies() {
		if key.SameName(p.Name, name) {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return key.VaultPolicy{}, &control.UsageError{Text: fmt.Sprintf("the configuration has no vault %s; it has: %s",
		name, strings.Join(names, ", "))}
}

// RotateKEK records a request for a new KEK.
func (d *Daemon) RotateKEK(ctx context.Context, actor, name, reason string) (control.KEKAccepted, error) {
	p, err := d.vaultPolicy(name)
	if err != nil {
		return control.KEKAccepted{}, err
	}
	q, joined, err := d.rotator.RequestKEK(d.asked(ctx), p, actor, reason)
	if err != nil {
		return control.KEKAccepted{}, refusal(err)
	}
	d.loop.PokeVault(p.URL, priority.Operator)
	return control.KEKAccepted{Vault: p.Name, Request: q.ID, Joined: joined}, nil
}

// showKEKs adds the vault's KEKs, from its record and the newest look at it.
func (d *Daemon) showKEKs(s *status.Vault) {
	p, err := d.vaultPolicy(s.Name)
	if err != nil {
		return
	}
	d.showVaultLook(s)
	pos := d.loop.VaultPosition(s.URL)
	switch {
	case pos.Err != nil:
		s.KEKWaiting = pos.Err.Error()
	case pos.Looked && !pos.Step.Acts() && pos.Step.Why != "nothing is due":
		s.KEKWaiting = pos.Step.Why
	}
	rec, err := d.store.LoadVault(context.Background(), s.URL)
	if err != nil {
		s.KEKWaiting = err.Error()
		return
	}
	s.KEKRequest, s.KEKNext = rec.Request, plan.NextKEK(p, &rec)
	for _, k := range rec.KEKs {
		s.KEKs = append(s.KEKs, status.KEK{
			State: k.State, Kid: k.Kid, Fingerprint: k.Fingerprint, Found: k.Found, Reason: k.Reason, By: k.By,
			Trust: k.Trust, Begun: k.Begun.Here, Made: k.Made.Here, Used: k.Used.Here,
			Superseded: k.Superseded.Here, Disabled: k.Disabled.Here,
		})
	}
}

// showVaultLook shows the state of a vault in which keyd looked for no key.
func (d *Daemon) showVaultLook(s *status.Vault) {
	seen := d.observer.LastVault(s.URL)
	if seen == nil || !s.SeenAt.IsZero() || s.Error != "" {
		return
	}
	s.Reachable = seen.Err == nil
	if seen.Err != nil {
		s.Error, s.Reason = seen.Err.Error(), key.ReasonOf(seen.Err)
		return
	}
	s.SeenAt, s.ClockSkew = seen.At, status.Seconds(seen.Skew)
}

// showVaultRecords updates the metrics of the vaults from their records.
func (d *Daemon) showVaultRecords(ctx context.Context) {
	for _, p := range d.config().VaultPolicies() {
		if rec, err := d.store.LoadVault(ctx, p.URL); err == nil {
			d.rotator.Metrics.RecordedVault(p, &rec)
		}
	}
}
