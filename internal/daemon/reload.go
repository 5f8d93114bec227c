package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/key"
)

// Reload reads the configuration again. It changes nothing before everything that can fail has succeeded; after an
// error keyd keeps the old configuration.
func (d *Daemon) Reload(ctx context.Context, actor string) error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	err := d.reload(ctx, actor)
	d.metrics.reloaded(err == nil)
	d.mu.Lock()
	d.refused = err
	d.mu.Unlock()
	d.touch()
	if err != nil {
		d.log.Error("the configuration was not reloaded; keyd keeps the old one", "error", err.Error())
	}
	return err
}

func (d *Daemon) reload(ctx context.Context, actor string) error {
	next, err := config.Load(d.opts.ConfigPath)
	if err == nil {
		err = CheckStart(next)
	}
	if err != nil {
		var problems config.Problems
		if errors.As(err, &problems) {
			return &control.UsageError{Text: "the configuration has mistakes; keyd keeps the old one:\n" + err.Error()}
		}
		return err
	}
	if fixed := needRestart(d.config(), next); len(fixed) > 0 {
		return &control.RefusedError{
			Text: "these settings change only with a restart (systemctl restart " + units(
				d.config(),
				next,
			) + "): " + strings.Join(
				fixed,
				", ",
			),
		}
	}
	reach, err := d.makeAzure(next)
	if err != nil {
		return err
	}
	rights, err := rightsOf(next)
	if err != nil {
		return err
	}
	policies, err := d.policies(ctx, next)
	if err != nil {
		return err
	}
	err = checkNames(ctx, d.store, next.Policies)
	var otherCase *key.CaseError
	if errors.As(err, &otherCase) {
		return &control.UsageError{Text: "keyd keeps the old configuration:\n" + err.Error()}
	}
	if err != nil {
		return err
	}
	was, is := d.config().Guarded(), next.Guarded()
	reloaded := chain.Entry{Event: chain.ConfigReloaded, Actor: actor, Fields: map[string]string{
		"keys": fmt.Sprint(len(next.Policies)), "vaults": fmt.Sprint(len(next.Vaults)), chain.FieldConfig: is.Digest()}}
	changes := configChanged(actor, was, is)
	if err := d.store.Append(ctx, append([]chain.Entry{reloaded}, changes...)...); err != nil {
		return fmt.Errorf("record the reload: %w", err)
	}
	d.mu.Lock()
	old := d.cfg
	d.cfg, d.azure, d.rights = next, reach, rights
	d.mu.Unlock()
	select {
	case d.hsmAgain <- struct{}{}: // it reads the configuration itself
	default:
	}
	d.limit(next)
	warnOfTestRoot(next, d.log)
	d.observer.AskAgain() // the clients made anew know no clock
	d.loop.SetVaults(next.VaultPolicies())
	d.loop.SetPolicies(policies)
	d.consumers.Use(reach.resources, next.Azure.Subscriptions)
	d.standings.reloaded()
	for _, v := range old.Vaults {
		if !slices.ContainsFunc(next.Vaults, func(n config.Vault) bool { return n.Name == v.Name }) {
			d.observer.Metrics.ForgetVault(v.Name)
			d.health.Metrics.ForgetVault(v.Name)
			d.vaultSeen.Forget(v.Name)
		}
	}
	d.health.SetPace(next.Health.Newest, next.Health.Older)
	d.log.Info("configuration reloaded", "actor", actor, "keys", len(next.Policies), "changed", len(changes))
	return nil
}

// needRestart names the changed settings that keyd cannot change while it runs.
func needRestart(old, next *config.Config) (names []string) {
	// Apart from pointers and unexported positions, these are plain values.
	add := func(name string, changed bool) {
		if changed {
			names = append(names, name)
		}
	}
	a, b := old.HSM, next.HSM
	add("instance", old.Instance != next.Instance)
	add("state_dir", old.StateDir != next.StateDir)
	add(
		"hsm.module, token, serial or pin_file",
		a.Module != b.Module || a.Token != b.Token || a.Serial != b.Serial || a.Model != b.Model ||
			a.Manufacturer != b.Manufacturer ||
			a.PINFile != b.PINFile,
	)
	add("hsm.socket, user or state_dir", a.Socket != b.Socket || a.User != b.User || a.StateDir != b.StateDir)
	add(
		"hsm.sessions, call_timeout, generate_timeout or wrap_mechanism",
		a.Sessions != b.Sessions || a.CallTimeout != b.CallTimeout || a.GenerateTimeout != b.GenerateTimeout ||
			a.WrapMechanism != b.WrapMechanism,
	)
	add(
		"control",
		old.Control.Socket != next.Control.Socket || old.Control.Group != next.Control.Group ||
			fmt.Sprint(old.Control.Operators) != fmt.Sprint(next.Control.Operators),
	)
	add("web", old.Web != next.Web)
	add("health.look", old.Health.Look != next.Health.Look)
	add("log", old.Log != next.Log)
	return names
}

// reloadOnSignal reloads whenever a signal asks for it.
func (d *Daemon) reloadOnSignal(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.opts.Reload:
			_ = d.Reload(ctx, "signal") // the log and the metric have the error
		}
	}
}
