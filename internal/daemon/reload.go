package daemon

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/hsm"
	"github.com/keyd-project/keyd/internal/key"
)

// Reload reads the configuration again. It changes nothing before everything that can fail has succeeded; after an
// error keyd keeps the old configuration. Settings that need a second operator wait for one; *control.ProposedError
// says so.
func (d *Daemon) Reload(ctx context.Context, actor string) error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	err := d.reload(ctx, actor)
	var proposed *control.ProposedError
	waits := errors.As(err, &proposed)
	d.metrics.reloaded(err == nil || waits)
	d.mu.Lock()
	d.refused = nil
	if !waits {
		d.refused = err
	}
	d.mu.Unlock()
	d.touch()
	switch {
	case waits:
		d.log.Warn("the configuration was reloaded, and some of it waits", "why", err.Error())
	case err != nil:
		d.log.Error("the configuration was not reloaded; keyd keeps the old one", "error", err.Error())
	}
	return err
}

func (d *Daemon) reload(ctx context.Context, actor string) error {
	file, err := d.load()
	if err != nil {
		return err
	}
	rd, err := d.judge(ctx, file)
	if err != nil {
		return err
	}
	next, err := d.prepare(ctx, rd)
	if err != nil {
		return err
	}
	err = d.recordSettings(ctx, rd, d.person(ctx, actor), d.reloadEntries(actor, rd))
	var proposed *control.ProposedError
	if err != nil && !errors.As(err, &proposed) {
		return fmt.Errorf("record the reload: %w", err)
	}
	d.use(next)
	d.log.Info("configuration reloaded", "actor", actor, "keys", len(rd.acts.Policies), "waiting", rd.waits())
	return err
}

// load reads the files.
func (d *Daemon) load() (*config.Config, error) {
	file, err := config.Load(d.opts.ConfigPath)
	if err == nil {
		err = CheckStart(file)
	}
	var problems config.Problems
	if errors.As(err, &problems) {
		return nil, &control.UsageError{Text: "the configuration has mistakes; keyd keeps the old one:\n" + err.Error()}
	}
	return file, err
}

// reloadEntries say in the audit chain what a reload puts into force.
func (d *Daemon) reloadEntries(actor string, rd reading) []chain.Entry {
	was, is := d.config().Guarded(), rd.acts.Guarded()
	reloaded := chain.Entry{Event: chain.ConfigReloaded, Actor: actor, Fields: map[string]string{
		"keys": fmt.Sprint(len(rd.acts.Policies)), "vaults": fmt.Sprint(len(rd.acts.Vaults)),
		chain.FieldConfig: is.Digest()}}
	if !d.alone {
		reloaded.Fields["host"], reloaded.Fields[chain.FieldPolicy] = d.host, is.Policy().Digest()
	}
	return append([]chain.Entry{reloaded}, configChanged(actor, was, is)...)
}

// prepared is a configuration that keyd can use, with all that is made of it.
type prepared struct {
	reading
	azure     azure
	rights    *hsm.Rights
	policies  []key.Policy
	authorise control.Authoriser
}

// prepare does all of a reload that can fail, and changes nothing.
func (d *Daemon) prepare(ctx context.Context, rd reading) (p prepared, err error) {
	p.reading = rd
	if fixed := needRestart(d.config(), rd.acts); len(fixed) > 0 {
		return p, &control.RefusedError{Text: "these settings change only with a restart (systemctl restart " +
			units(d.config(), rd.acts) + "): " + strings.Join(fixed, ", ")}
	}
	if p.azure, err = d.makeAzure(rd.acts); err != nil {
		return p, err
	}
	if p.rights, err = rightsOf(rd.file); err != nil {
		return p, err
	}
	if p.policies, err = d.policies(ctx, rd.acts); err != nil {
		return p, err
	}
	if p.authorise, err = authoriser(rd.acts); err != nil {
		return p, err
	}
	err = checkNames(ctx, d.store, rd.file.Policies)
	var otherCase *key.CaseError
	if errors.As(err, &otherCase) {
		err = &control.UsageError{Text: "keyd keeps the old configuration:\n" + err.Error()}
	}
	return p, err
}

// use has keyd act on a configuration.
func (d *Daemon) use(next prepared) {
	d.mu.Lock()
	old := d.cfg
	d.cfg, d.azure, d.rights = next.acts, next.azure, next.rights
	d.note(next.reading)
	d.mu.Unlock()
	select {
	case d.hsmAgain <- struct{}{}: // it reads the configuration itself
	default:
	}
	d.admit(next.authorise)
	d.limit(next.acts)
	warnOfTestRoot(next.acts, d.log)
	d.observer.AskAgain() // the clients made anew know no clock
	d.loop.SetVaults(next.acts.VaultPolicies())
	spareMemory(len(next.policies))
	d.loop.SetPolicies(next.policies)
	d.hosts.nowInForce(d.policyHere())
	d.consumers.Use(next.azure.resources, next.acts.Azure.Subscriptions)
	d.standings.reloaded()
	for _, v := range old.Vaults {
		if !slices.ContainsFunc(next.acts.Vaults, func(n config.Vault) bool { return n.Name == v.Name }) {
			d.observer.Metrics.ForgetVault(v.Name)
			d.health.Metrics.ForgetVault(v.Name)
			d.vaultSeen.Forget(v.Name)
		}
	}
	d.health.SetPace(next.acts.Health.Newest, next.acts.Health.Older)
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
	add("store", !reflect.DeepEqual(old.Store, next.Store))
	add("host", next.Store.Shared() && old.Host != next.Host)
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
	add("control.socket", old.Control.Socket != next.Control.Socket)
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
