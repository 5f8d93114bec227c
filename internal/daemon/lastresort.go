package daemon

import (
	"context"
	"slices"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/key"
)

// A host that acts on another configuration than the one in force leads only as the last resort. Then it goes on with
// what the records have, and neither disables, adopts nor adds anything, until keyd reload there. That goes for key
// exchange keys, too.

// setPolicies has the loop act on the present configuration, or on as much of it as a last resort may. The lock of
// reloading is held.
func (d *Daemon) setPolicies(ctx context.Context) {
	cfg := d.config()
	policies, err := d.policies(ctx, cfg)
	vaults := cfg.VaultPolicies()
	if err == nil && d.differs() {
		d.log.Warn("this host acts on another configuration than the one in force: it disables, adopts and adds " +
			"nothing; bring the files here up to date, then: keyd reload")
		policies, vaults, err = d.lastResort(ctx, policies, vaults)
	}
	if err != nil {
		d.log.Error("the keys of this host's configuration could not be read", "error", err.Error())
		policies, vaults = nil, nil // the next reload, or the next term, tries again
	}
	d.loop.SetVaults(vaults)
	d.loop.SetPolicies(policies)
}

// lastResort is what a last resort may do: no more than the records have.
func (d *Daemon) lastResort(ctx context.Context, all []key.Policy, allVaults []key.VaultPolicy) (
	policies []key.Policy, vaults []key.VaultPolicy, err error,
) {
	for _, p := range all {
		rec, err := d.store.Load(ctx, p.Key)
		if err != nil {
			return nil, nil, err
		}
		if rec.Revision == 0 {
			continue // it would be added
		}
		p.Retire = key.RetireRule{}
		p.Vaults = slices.DeleteFunc(slices.Clone(p.Vaults), func(v key.Vault) bool {
			return !slices.ContainsFunc(rec.Vaults, func(known key.Vault) bool { return known.URL == v.URL })
		})
		policies = append(policies, p)
	}
	for _, v := range allVaults {
		rec, err := d.store.LoadVault(ctx, v.URL)
		if err != nil {
			return nil, nil, err
		}
		if rec.Revision > 0 {
			v.KeepOld, v.Schedule, v.ScheduleText = true, nil, ""
			vaults = append(vaults, v)
		}
	}
	return policies, vaults, nil
}

// agreed refuses consent on a host that acts on another configuration than the one in force.
func (d *Daemon) agreed() error {
	if !d.differs() {
		return nil
	}
	return &control.RefusedError{Text: "this host acts on another configuration than the one in force, and what it " +
		"shows may not be what follows: bring the files here up to date, then: keyd reload; or give the command on " +
		"another host"}
}
