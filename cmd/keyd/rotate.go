package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/status"
)

// rotation is what the flags of rotate ask for.
type rotation struct {
	control.RotateOptions
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
that is pending already is joined. Ctrl-C only stops watching: the daemon goes on.

With several keys it asks first on a terminal, and needs --yes elsewhere.`,
		Example: `  keyd rotate --now sa-cmk-key --reason "yearly drill"
  keyd rotate --now sa-cmk-key --compromise --reason "incident 4711"
  keyd rotate --now --yes --json --timeout 10m`,
		RunE: func(cmd *cobra.Command, names []string) error {
			r.Keys = names
			return a.rotateNow(cmd.Context(), r)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&r.now, "now", false, "rotate now (required)")
	flags.StringVar(&r.Reason, "reason", "", "why; it goes into the audit")
	flags.BoolVar(&r.Compromise, "compromise", false, "the present material is compromised: only newly made material will do")
	flags.StringArrayVar(&r.Without, "without", nil, "leave this vault out, in an emergency; may be repeated")
	flags.DurationVar(&r.timeout, "timeout", 0, "stop watching after this long, and exit 1 (0: never)")
	flags.BoolVar(&r.noWait, "no-wait", false, "only ask for the rotation, do not watch it")
	flags.BoolVarP(&r.yes, "yes", "y", false, "do not ask")
	return a.jsonFlag(cmd)
}

func (a *app) rotateNow(ctx context.Context, r rotation) error {
	if !r.now {
		return usagef("the daemon rotates on its schedule; to rotate now, write `keyd rotate --now`")
	}
	snap, err := a.client().Snapshot(ctx)
	if err != nil {
		return err
	}
	if len(r.Keys) == 0 {
		r.Keys = configured(snap)
	}
	if len(r.Keys) == 0 {
		return usagef("there is no key to rotate")
	}
	if agreed, err := a.agreed(r, snap); err != nil || !agreed {
		return err
	}
	if r.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.timeout)
		defer cancel()
	}
	// The subscription comes first, so that no step is missed.
	events, err := a.client().Subscribe(ctx)
	if err != nil {
		return err
	}
	accepted, err := a.client().Rotate(ctx, r.RotateOptions)
	if err != nil {
		return detached(ctx, err)
	}
	if r.noWait {
		return a.show(accepted, func(w io.Writer, _ style) { writeAccepted(w, accepted) })
	}
	return a.watch(ctx, events, accepted)
}

func configured(snap status.Snapshot) []string {
	var names []string
	for _, k := range snap.Keys {
		if !k.Retained {
			names = append(names, k.Name)
		}
	}
	return names
}

// agreed asks about several keys; about one, naming it was consent.
func (a *app) agreed(r rotation, snap status.Snapshot) (bool, error) {
	if r.yes || len(r.Keys) == 1 {
		return true, nil
	}
	if !isTerminal(a.in) {
		return false, usagef("this would rotate %s (%s): add --yes to do it without being asked",
			count(len(r.Keys), "key"), strings.Join(r.Keys, ", "))
	}
	fmt.Fprintf(a.err, "This makes a new generation of %s, in all their vaults:\n", count(len(r.Keys), "key"))
	var t table
	for _, name := range r.Keys {
		for _, k := range snap.Keys {
			if k.Name == name {
				t.add(plain(k.Name, count(len(k.Vaults), "vault"), "last rotated "+when(snap.At, k.LastRotation))...)
			}
		}
	}
	t.write(a.err, "  ")
	if !a.ask("Rotate them?") {
		fmt.Fprintln(a.err, "Nothing was asked for.")
		return false, nil
	}
	return true, nil
}

func writeAccepted(w io.Writer, accepted []control.Accepted) {
	var t table
	for _, acc := range accepted {
		how := "asked for"
		if acc.Joined {
			how = "joined, was pending already"
		}
		t.add(plain(acc.Key, "request "+string(acc.Request), how)...)
	}
	t.write(w, "")
}

func (a *app) watch(ctx context.Context, events <-chan status.Event, accepted []control.Accepted) error {
	show, stop := a.viewer(accepted)
	err := a.client().Follow(ctx, events, accepted, show)
	stop()
	return detached(ctx, err)
}

// detached says that the end of this command is not the end of a rotation.
func detached(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.Canceled):
		return errors.New("watching no longer; the daemon goes on with what it was asked for, and `keyd status` shows how far it is")
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return errors.New("not finished in time; the daemon goes on with what it was asked for, and `keyd status` shows how far it is")
	}
	return err
}

// viewer chooses how events are shown: as JSON, live, or line by line.
func (a *app) viewer(accepted []control.Accepted) (show func(status.Event), stop func()) {
	if a.json {
		enc := json.NewEncoder(a.out)
		return func(e status.Event) { _ = enc.Encode(e) }, func() {}
	}
	if !isTerminal(a.out) {
		return a.lines(accepted)
	}
	width, height, err := term.GetSize(int(a.out.Fd()))
	if err != nil || len(accepted) >= height {
		return a.lines(accepted)
	}
	return newLive(a.out, a.style(), width, accepted).run()
}

func (a *app) lines(accepted []control.Accepted) (show func(status.Event), stop func()) {
	writeAccepted(a.out, accepted)
	return func(e status.Event) { fmt.Fprintln(a.out, eventLine(e)) }, func() {}
}
