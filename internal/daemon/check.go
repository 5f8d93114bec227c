package daemon

import (
	"context"
	"errors"

	"github.com/keyd-project/keyd/internal/check"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/priority"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/store/shared"
	"github.com/keyd-project/keyd/internal/trouble"
	"github.com/keyd-project/keyd/internal/vault"
)

// Check tries everything that keyd needs once, or only what concerns the key or the vault with this name. It tells how
// far it is, and changes nothing.
func (d *Daemon) Check(ctx context.Context, name string, tell func(status.Progress)) (status.Checked, error) {
	only, vault, err := d.checkScope(name)
	if err != nil {
		return status.Checked{}, err
	}
	ctx = priority.With(ctx, priority.Operator)
	checks, err := check.Run(ctx, check.Parts{
		Key: only, Vault: vault, Tell: tell,
		Self: d.approvals().Self, ConfigPath: d.opts.ConfigPath,
		Config: d.config(), Start: CheckStart, Store: d.store, Shared: d.checkedStore(),
		Keys:     d.loop,
		Observer: d.observer,
		Health:   d.health, HSM: checkedHSM{d.pinnedHSM(), d}, Vaults: d.checkVault, Consumers: d.checkConsumers,
		Credential:  d.credential().Reread(),
		Unapproved:  d.notInForce().changes,
		AuditBroken: d.keeper.Broken,
		HSMUnit:     d.hsmUnit(), HSMDownRemedy: trouble.HSMDownRemedy(d.hsmUnit()),
		CertificateSoon: trouble.Of(trouble.CertificateEnds).Threshold, DriftSeverity: trouble.DriftSeverity,
	})
	return status.Summed(checks), err
}

// checkedStore is the store for several hosts; nil where one host has the state.
func (d *Daemon) checkedStore() check.SharedStore {
	if d.shared == nil {
		return nil
	}
	return sharedStore{d.shared, storeName(d.config())}
}

type sharedStore struct {
	*shared.Store
	name string
}

func (s sharedStore) Name() string { return s.name }

func (s sharedStore) Lost(ctx context.Context) error {
	missing, err := s.Missing(ctx)
	if missing != nil {
		return missing
	}
	if err != nil {
		return err
	}
	halt, err := s.Halted(ctx)
	if err != nil || halt == nil {
		return err
	}
	return &shared.HaltedError{Engine: s.name, Halt: *halt}
}

// checkScope finds the key and the vault with a name: its name as the configuration has it, and its URL. Without a name
// both are empty.
func (d *Daemon) checkScope(name string) (keyName, vault string, err error) {
	if name == "" {
		return "", "", nil
	}
	if p, known := d.loop.Policy(name); known {
		keyName = p.Key
	}
	for _, v := range d.config().Vaults {
		if key.SameName(v.Name, name) {
			vault = v.URL
		}
	}
	if keyName == "" && vault == "" {
		return "", "", &control.UsageError{
			Text: "there is no key and no vault " + name + ": keyd status lists both"}
	}
	return keyName, vault, nil
}

// checkedHSM notes what a check sees of the HSM side, so that the status shows it at once.
type checkedHSM struct {
	pinnedHSM
	d *Daemon
}

func (h checkedHSM) Describe(ctx context.Context) (key.HSMInfo, error) {
	seen := h.d.lookAtHSM(ctx)
	return seen.info, errors.Join(seen.err, ctx.Err())
}

func (d *Daemon) checkConsumers(own string) check.Consumers {
	return d.consumers.Inspect(d.config().Policies, own,
		func(ctx context.Context, url, name string) ([]vault.LocalRole, error) {
			if c := d.client(url); c != nil {
				return c.LocalRoles(ctx, name)
			}
			return nil, errors.New("the vault is not in the configuration")
		})
}

func (d *Daemon) checkVault(url string) check.Vault {
	if c := d.client(url); c != nil {
		return c
	}
	return nil
}
