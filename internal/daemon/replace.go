package daemon

import (
	"context"
	"fmt"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/status"
)

// Replacements shows how far the replacements are: that of one key, or all that have begun.
func (d *Daemon) Replacements(ctx context.Context, o control.ReplaceOptions) ([]status.Replacement, error) {
	if o.Key != "" {
		shown, err := d.replacement(ctx, o)
		return []status.Replacement{shown}, err
	}
	all := []status.Replacement{}
	for _, name := range d.loop.Names() {
		rec, err := d.store.Load(ctx, name)
		if err != nil {
			return nil, err
		}
		if rec.Replacement == nil {
			continue
		}
		shown, err := d.replacement(ctx, control.ReplaceOptions{Key: name})
		if err != nil {
			return nil, err
		}
		all = append(all, shown)
	}
	return all, nil
}

// replacement looks at those who use the key, and then shows the replacement.
func (d *Daemon) replacement(ctx context.Context, o control.ReplaceOptions) (shown status.Replacement, err error) {
	p, want, err := d.replacing(o)
	if err == nil {
		ctx, err = d.under(ctx) // what a look shows is kept
	}
	if err != nil {
		return shown, err
	}
	d.lookAtUsers(ctx, p, want)
	if shown, err = d.rotator.Replacement(ctx, p, want); err != nil {
		return shown, refusal(err)
	}
	for i := range shown.Consumers {
		c := &shown.Consumers[i]
		if c.State == "by hand" && c.ToURL != "" {
			c.Command = consumer.SetTo(c.ID, c.ToURL, shown.With, c.Version)
		}
	}
	return shown, nil
}

// lookAtUsers looks now, also at what is set to the new key already.
func (d *Daemon) lookAtUsers(ctx context.Context, p key.Policy, want rotate.Replacing) {
	var err error
	if p.Heir, err = d.rotator.Heir(ctx, p.Key); err != nil {
		return // whoever called reads the record, too, and says so
	}
	if heir, known := d.loop.Policy(want.With); p.Heir == nil && known && want.With != "" {
		p.Heir = &key.Heir{Key: heir.Key, Vaults: heir.Vaults}
	}
	d.consumers.Look(ctx, p)
}

// replacing finds the key and the vault that an operator named.
func (d *Daemon) replacing(o control.ReplaceOptions) (p key.Policy, want rotate.Replacing, err error) {
	if p, err = d.policy(o.Key); err != nil {
		return p, want, err
	}
	want = rotate.Replacing{With: o.With, VaultName: o.Vault, Digest: o.Digest}
	if o.Vault == "" {
		return p, want, nil
	}
	for _, v := range d.config().VaultPolicies() {
		if key.SameName(v.Name, o.Vault) {
			want.Vault, want.VaultName = v.URL, v.Name
			return p, want, nil
		}
	}
	return p, want, &control.UsageError{
		Text: fmt.Sprintf("vault %s is not in the configuration. Write under vaults:\n\n"+
			"  %s: {url: https://HOST}\n\nand under keys:, besides the old key:\n\n  %s: {spec: %s, vaults: [%s]}\n\n"+
			"Then: "+
			"keyd reload", o.Vault, o.Vault, o.With, p.Spec, o.Vault),
	}
}

// Replace begins a replacement, goes on with it, has the old key disabled, or stops it. The loop does the rest.
func (d *Daemon) Replace(ctx context.Context, actor, reason string, o control.ReplaceOptions) error {
	p, want, err := d.replacing(o)
	if err != nil {
		return err
	}
	switch o.Step {
	case control.ReplaceStop:
		return d.poked(p.Key, d.rotator.StopReplace(ctx, p, actor, reason))
	case control.ReplaceDisable:
		return d.poked(p.Key, d.rotator.ConsentToDisable(d.asked(ctx), p, actor, reason, o.Digest))
	}
	return d.poked(p.Key, d.rotator.Replace(d.asked(ctx), p, actor, reason, want))
}

func shownReplaced(rec *record.Record) *status.Replaced {
	x := rec.Replacement
	if x == nil {
		return nil
	}
	return &status.Replaced{With: x.With, Begun: x.At, Moved: len(x.Moved), Consented: x.Disabling(),
		Left: len(rec.Replaceable()), Done: x.Done}
}
