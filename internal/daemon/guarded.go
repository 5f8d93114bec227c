package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/key"
)

// configChanged are the entries that say by value how the guarded settings changed.
func configChanged(actor string, was, is config.Guarded) (entries []chain.Entry) {
	for _, c := range was.Changes(is) {
		entries = append(
			entries,
			chain.Entry{Event: chain.ConfigChanged, Actor: actor, Key: c.About, Fields: c.Values},
		)
	}
	return entries
}

// recordStart records that this process acts, and on what: a restart can change as much as a reload, and more.
func (d *Daemon) recordStart(ctx context.Context) error {
	started := chain.Entry{Event: chain.DaemonStarted, Actor: "keyd",
		Fields: map[string]string{"version": d.opts.Version, "instance": d.cfg.Instance}}
	if !d.alone {
		if err := d.readPolicy(ctx); err != nil {
			return errors.Join(err, d.store.Append(ctx, started))
		}
		if !d.putsIntoForce(started) {
			return d.store.Append(ctx, started)
		}
	}
	is := d.cfg.Guarded()
	last, changes, err := changedSince(ctx, d.store, is)
	if err != nil {
		// Without a digest, the next start compares again.
		return errors.Join(err, d.store.Append(ctx, started))
	}
	started.Fields[chain.FieldConfig] = is.Digest()
	if last != "" && len(changes) > 0 {
		d.log.Warn("keyd starts with other settings than it last acted on; the audit has each change",
			"changed", len(changes))
	}
	err = d.recordSettings(ctx, d.reading, key.Person{Actor: "keyd"}, append([]chain.Entry{started}, changes...))
	var proposed *control.ProposedError
	if errors.As(err, &proposed) {
		d.log.Warn("keyd starts, and some of the configuration waits", "why", proposed.Text)
		return nil
	}
	return err
}

// putsIntoForce completes the entry of the start of one host of several, and reports whether the start puts this host's
// configuration into force. It does so only while none is; from then on keyd reload does, on any host.
func (d *Daemon) putsIntoForce(started chain.Entry) bool {
	here, inForce := d.policyHere(), d.hosts.policyInForce()
	started.Fields["host"] = d.host
	switch inForce {
	case "":
		started.Fields[chain.FieldPolicy] = here
		d.hosts.nowInForce(here)
		return true
	case here:
		return false
	}
	started.Fields["other_policy"] = here
	d.log.Warn(
		"this host's configuration is another than the one in force, and this host leads only if no other can; " +
			"bring the files on all hosts up to date, then: keyd reload, on each",
	)
	return false
}

// readPolicy reads which configuration is in force for all hosts.
func (d *Daemon) readPolicy(ctx context.Context) error {
	if d.alone {
		return nil
	}
	policy, err := lastOf(ctx, d.store, chain.FieldPolicy)
	d.hosts.nowInForce(policy)
	return err
}

// nowInForce notes which configuration is in force for all hosts.
func (h *hosts) nowInForce(policy string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.policy = policy
}

// changedSince compares the settings with those that the chain records, whose digest is last.
func changedSince(ctx context.Context, s Store, is config.Guarded) (last string, changes []chain.Entry, err error) {
	last, err = lastConfig(ctx, s)
	if err != nil || last == is.Digest() {
		return last, nil, err
	}
	was, err := recordedConfig(ctx, s)
	if err != nil {
		return last, nil, err
	}
	return last, configChanged("keyd", was, is), nil
}

// lookedBack is how many entries lastOf reads first. Nearly always the last start or reload is among them.
const lookedBack = 1000

// lastConfig is the digest that the last start or reload recorded; "" if none did.
func lastConfig(ctx context.Context, s Store) (string, error) {
	return lastOf(ctx, s, chain.FieldConfig)
}

// lastOf is what the last start or reload recorded in this field that recorded it at all.
func lastOf(ctx context.Context, s Store, field string) (string, error) {
	for n := lookedBack; ; n *= 10 {
		entries, err := s.Recent(ctx, n)
		if err != nil {
			return "", fmt.Errorf("read which configuration keyd last acted on: %w", err)
		}
		for i := len(entries) - 1; i >= 0; i-- {
			if digest := entries[i].Fields[field]; digest != "" && acts(entries[i].Event) {
				return digest, nil
			}
		}
		if len(entries) < n {
			return "", nil
		}
	}
}

func acts(e chain.Event) bool { return e == chain.DaemonStarted || e == chain.ConfigReloaded }

// recordedConfig adds up what the chain says about the guarded settings.
func recordedConfig(ctx context.Context, s Store) (config.Guarded, error) {
	g := config.Guarded{}
	err := s.Audit(ctx, 1, func(e chain.Linked) error {
		if e.Event == chain.ConfigChanged {
			g.Apply(config.GuardedChange{About: e.Key, Values: e.Fields})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read what the audit says about the configuration: %w", err)
	}
	return g, nil
}
