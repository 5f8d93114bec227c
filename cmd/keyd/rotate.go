package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

// rotation is what rotate's flags ask for.
type rotation struct {
	control.RotateOptions
	labels           []string
	now, noWait, yes bool
	timeout          time.Duration
}

func (a *app) rotate() *cobra.Command {
	var r rotation
	cmd := &cobra.Command{
		Use:   "rotate --now [KEY…]",
		Short: "Rotate keys now, and show each step as it happens",
		Long: `rotate --now asks the daemon for a new generation of each KEY, of every key when none is
named, and shows each step as it happens, until the new generation is active in every vault. A request
that is pending already is joined. Ctrl-C only stops watching: the daemon goes on. It ends with the new
versions and their URLs. On a terminal it asks why, where --reason does not say it.

With several keys, with --label and with --compromise, it asks first on a terminal, and needs --yes
elsewhere. If the daemon refuses one of several keys, it requests none.

--compromise calls all material that the key has so far compromised: keyd makes new material, and
never places an earlier generation again. It disables nothing. Until the compromised versions are
disabled, or somebody answers for them with keyd acknowledge, status and an alert remind of them.`,
		Example: `  keyd rotate --now sa-cmk-key --reason "yearly drill"
  keyd rotate --now sa-cmk-key --compromise --reason "incident 4711"
  keyd rotate --now --label prod --reason "yearly drill"
  keyd rotate --now --yes --json --timeout 10m`,
		RunE: func(cmd *cobra.Command, names []string) error {
			r.Keys = names
			return a.rotateNow(cmd.Context(), r)
		},
		ValidArgsFunction: a.complete(otherKeys),
	}
	flags := cmd.Flags()
	flags.BoolVar(&r.now, "now", false, "rotate now (required)")
	flags.StringVar(&r.Reason, "reason", "", "why; the audit records it (with --compromise required)")
	flags.BoolVar(
		&r.Compromise,
		"compromise",
		false,
		"the current material is compromised: keyd must make new material",
	)
	flags.StringArrayVar(&r.Without, "without", nil, "leave this vault out, in an emergency; may be repeated")
	a.labelFlag(cmd, &r.labels, "rotate the keys with this label")
	flags.DurationVar(&r.timeout, "timeout", 0, "stop watching after this long, and exit 1 (0: never)")
	flags.BoolVar(&r.noWait, "no-wait", false, "request the rotation without watching it")
	flags.BoolVarP(&r.yes, "yes", "y", false, "do not ask")
	_ = cmd.RegisterFlagCompletionFunc("without", a.complete(vaultNames)) // fails only for a flag that does not exist
	return a.jsonFlag(cmd)
}

func (a *app) rotateNow(ctx context.Context, r rotation) error {
	if err := r.check(); err != nil {
		return err
	}
	if len(r.labels) > 0 {
		names, err := a.labelled(ctx, r.labels)
		if err != nil {
			return err
		}
		r.Keys = names
	}
	snap, err := a.keysOf(ctx, status.Selection{Only: r.Keys, Brief: true})
	if err != nil {
		return err
	}
	if r.Keys, err = toRotate(snap, r.Keys); err != nil {
		return err
	}
	if err := knownVaults(snap, r.Without); err != nil {
		return err
	}
	if r.Reason, err = a.reasonOf(ctx, r); err != nil {
		return err
	}
	if agreed, err := a.agreed(ctx, r, snap); err != nil || !agreed {
		return err
	}
	if err := a.requestAndWatch(ctx, r); err != nil {
		return err
	}
	if r.Compromise {
		a.sayWhatFollows(r.Keys)
	}
	return nil
}

// requestAndWatch requests the rotation, and shows what becomes of it.
func (a *app) requestAndWatch(ctx context.Context, r rotation) error {
	if r.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.timeout)
		defer cancel()
	}
	// The subscription comes first, so that the view misses no step.
	events, err := a.client().Subscribe(ctx)
	if err != nil {
		return err
	}
	accepted, err := a.client().Rotate(ctx, r.RotateOptions)
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf(
			"ended before the daemon answered, so the request may or may not be recorded; see %s",
			seeHow(r.Keys),
		)
	case err != nil:
		return err
	case r.noWait:
		return a.show(accepted, func(w io.Writer, s style) { writeAccepted(w, s, accepted) })
	}
	return a.watch(ctx, events, accepted)
}

// check refuses flags that make no sense.
func (r rotation) check() error {
	switch {
	case !r.now:
		return usagef("the daemon rotates on its schedule; to rotate now, write `keyd rotate --now`")
	case len(r.Keys) > 0 && len(r.labels) > 0:
		return usagef("name keys, or choose them by --label: not both")
	case r.timeout < 0:
		return usagef("--timeout %s is negative: write a duration such as 10m, or 0 for no limit", r.timeout)
	case r.noWait && r.timeout > 0:
		return usagef("--timeout is for watching, and --no-wait does not watch: leave one of them out")
	}
	return nil
}

// toRotate returns the named keys, each once, or all of those in the configuration.
func toRotate(snap status.Snapshot, named []string) ([]string, error) {
	var names []string
	for _, name := range named {
		k, err := find(snap, name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(names, k.Name) {
			names = append(names, k.Name)
		}
	}
	if len(named) > 0 {
		return names, nil
	}
	for _, k := range snap.Keys {
		if !k.Retained {
			names = append(names, k.Name)
		}
	}
	if len(names) == 0 {
		return nil, usagef(
			"there is no key to rotate: add one under `keys:` in the configuration, then run `keyd reload`",
		)
	}
	return names, nil
}

// knownVaults refuses a vault that does not exist. The daemon knows which key has which vault.
func knownVaults(snap status.Snapshot, without []string) error {
	known := vaultNames(snap, nil)
	for _, name := range without {
		if !slices.ContainsFunc(known, func(v string) bool { return key.SameName(v, name) }) {
			return usagef("there is no vault %q; %s`keyd status` lists the vaults", name, didYouMean(name, known))
		}
	}
	return nil
}

// reasonOf is the reason of a rotation. It asks for it on a terminal.
func (a *app) reasonOf(ctx context.Context, r rotation) (reason string, err error) {
	if r.Reason == "" && !r.yes && isTerminal(a.in) {
		if r.Reason, err = a.askText(ctx, "Why? The audit records it:"); err != nil {
			a.note("Nothing was requested.")
			return "", err
		}
	}
	if r.Reason == "" && r.Compromise {
		return "", usagef("--compromise needs a --reason: the audit records it")
	}
	return r.Reason, nil
}

// agreed asks for consent to rotate several keys, or to call material compromised. Otherwise naming the key is consent.
func (a *app) agreed(ctx context.Context, r rotation, snap status.Snapshot) (bool, error) {
	if r.yes || len(r.Keys) == 1 && len(r.labels) == 0 && !r.Compromise {
		return true, nil
	}
	of := fmt.Sprintf("%s (%s)", words.Count(len(r.Keys), "key"), strings.Join(r.Keys, ", "))
	would, question := "rotate "+of, "Rotate them?"
	if r.Compromise {
		would, question = "call all material of "+of+" compromised", "Is all of it compromised?"
	}
	if !isTerminal(a.in) {
		return false, usagef("this would %s: add --yes to do it without being asked", would)
	}
	if r.Compromise {
		a.note("This calls all material that %s has so far compromised. Nothing takes that back.", list(r.Keys))
		a.note("keyd makes new material now, and never places the present one again. It disables nothing.")
	} else {
		a.note("This makes a new generation of %s, in all their vaults:", words.Count(len(r.Keys), "key"))
	}
	t := styleOf(a.err).table()
	for _, name := range r.Keys {
		if k, err := find(snap, name); err == nil {
			last := "never rotated"
			if !k.LastRotation.IsZero() {
				last = "last rotated " + when(snap.At, k.LastRotation)
			}
			t.add(plain(k.Name, words.Count(len(k.Vaults), "vault"), last)...)
		}
	}
	t.write(a.err, "  ")
	agreed, err := a.ask(ctx, question)
	if err != nil || !agreed {
		a.note("Nothing was requested.")
	}
	return agreed, err
}

func writeAccepted(w io.Writer, s style, accepted []control.Accepted) {
	t := s.table()
	for _, acc := range accepted {
		how := "requested"
		if acc.Joined {
			how = "joined a pending request"
		}
		t.add(plain(acc.Key, "request "+string(acc.Request), how)...)
	}
	t.write(w, "")
}
