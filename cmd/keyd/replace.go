package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/status"
)

// replacing is what the flags of keyd replace say.
type replacing struct {
	with, vault, reason        string
	disable, stop, status, yes bool
}

func (a *app) replace() *cobra.Command {
	var r replacing
	cmd := &cobra.Command{
		Use:   "replace KEY --with NEWKEY --reason TEXT",
		Short: "Replace a key by another one after a compromise, without an outage",
		Long: `replace leads through what Microsoft advises after the compromise of a key: a new key under a new
name, in a clean vault with --vault; the consumers set to it, one after the other, and seen to work
under it; and only then, with your consent, the old key's versions disabled. keyd never disables first.

NEWKEY must be in the configuration; if it is not, replace says what to write. With --with, replace
shows where each consumer goes, which of them cannot leave their vault, and which keyd cannot move.
It begins only with your consent: it asks on a terminal, and needs --yes elsewhere. keyd then also
moves the consumers that follow new versions by themselves. A move that fails stops the others; the
same command again makes keyd go on. --disable consents to disable the old key's versions, once all
consumers are seen to work. keyd disables them one by one, when the evidence that the retire rule asks
for says that nobody can need them. --stop ends a replacement where it is.
With --status, or a KEY alone, it shows what is left.`,
		Example: `  keyd replace sa-cmk-key --with sa-cmk-key-2 --vault contoso-clean --reason "a backup was stolen"
  keyd replace --status
  keyd replace sa-cmk-key --disable --reason "all consumers work under the new key"`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := r.check(names); err != nil {
				return err
			}
			name := ""
			if len(names) > 0 {
				var err error
				if name, err = a.mustKnow(cmd.Context(), names[0]); err != nil {
					return err
				}
			}
			return a.replaceKey(cmd.Context(), name, r)
		},
		ValidArgsFunction: a.complete(oneKey),
	}
	f := cmd.Flags()
	f.StringVar(&r.with, "with", "", "the new key")
	f.StringVar(&r.vault, "vault", "", "the vault where consumers go (default: each stays in its own)")
	f.BoolVar(&r.disable, "disable", false, "show the old key's versions, and consent to disable them")
	f.BoolVar(&r.stop, "stop", false, "end the replacement where it is")
	f.BoolVar(&r.status, "status", false, "show what is left; it changes nothing")
	f.StringVar(&r.reason, "reason", "", "why; the audit records it (required to change anything)")
	f.BoolVarP(&r.yes, "yes", "y", false, "consent without being asked")
	return a.jsonFlag(cmd)
}

func (r replacing) check(names []string) error {
	asks := 0
	for _, asked := range []bool{r.with != "", r.disable, r.stop, r.status} {
		if asked {
			asks++
		}
	}
	switch {
	case asks > 1:
		return usagef("use only one of --with, --disable, --stop and --status")
	case len(names) == 0 && !r.status:
		return usagef("name the key: keyd replace KEY --with NEWKEY; to see every replacement: keyd replace --status")
	case r.vault != "" && r.with == "":
		return usagef("--vault goes with --with")
	case (r.yes || r.stop) && r.reason == "":
		return usagef("--reason is required: the audit records it")
	}
	return nil
}

func (a *app) replaceKey(ctx context.Context, name string, r replacing) error {
	o := control.ReplaceOptions{Key: name, With: r.with, Vault: r.vault}
	if r.stop {
		o.Step = control.ReplaceStop
		if err := a.client().Replace(ctx, r.reason, o); err != nil {
			return err
		}
		return a.say(
			outcome{Done: "replacement stopped", Key: name},
			fmt.Sprintf("The replacement of %s is stopped. "+
				"Consumers that were moved stay where they are: keyd consumers %[1]s", name),
		)
	}
	all, err := a.client().Replacements(ctx, o)
	if err != nil {
		return err
	}
	if name == "" {
		return a.show(all, func(w io.Writer, s style) { writeReplacements(w, s, all) })
	}
	x := all[0]
	if err := a.show(x, func(w io.Writer, s style) { writeReplacement(w, s, x) }); err != nil {
		return err
	}
	var question string
	switch begun := !x.Begun.IsZero(); {
	case r.with != "" && begun && x.Failed == "":
		a.note("keyd goes on by itself.")
		return nil
	case r.with != "" && begun:
		question = "Have keyd try the move again?"
	case r.with != "":
		question = "Have keyd set these consumers to the new key?"
	case r.disable && x.Consent == nil:
		o.Step, question = control.ReplaceDisable, "Consent to disable these versions of the old key?"
	default:
		return nil
	}
	if r.disable && !x.MayConsent {
		a.note("Nothing was recorded: the steps before the consent come first.")
		return nil
	}
	return a.takeStep(ctx, o, x, r, question)
}

// takeStep asks for consent to the next step, and has keyd take it.
func (a *app) takeStep(ctx context.Context, o control.ReplaceOptions, x status.Replacement, r replacing,
	question string) error {
	if !r.yes {
		if !isTerminal(a.in) || a.json || r.reason == "" {
			a.note("Nothing was recorded. To consent, add --yes --reason TEXT.")
			return nil
		}
		if agreed, err := a.ask(ctx, question); err != nil || !agreed {
			a.note("Nothing was recorded.")
			return err
		}
	}
	o.Digest = x.Digest
	if err := a.client().Replace(ctx, r.reason, o); err != nil {
		return err
	}
	a.note("Your consent is recorded. To see what is left: keyd replace %s --status", x.Key)
	return nil
}

func writeReplacements(w io.Writer, s style, all []status.Replacement) {
	if len(all) == 0 {
		fmt.Fprintln(w, "No key is replaced by another one.")
	}
	for i, x := range all {
		if i > 0 {
			fmt.Fprintln(w)
		}
		writeReplacement(w, s, x)
	}
}

func writeReplacement(w io.Writer, s style, x status.Replacement) {
	where := "each consumer stays in its vault"
	if x.Vault != "" {
		where = "consumers go to vault " + clean(x.Vault)
	}
	fmt.Fprintf(w, "%s is replaced by %s; %s.\n", s.bold(clean(x.Key)), s.bold(clean(x.With)), where)
	if x.Begun.IsZero() {
		fmt.Fprintln(w, "It has not begun. This would follow:")
	} else {
		fmt.Fprintf(w, "%s asked for it at %s: %s\n", clean(x.By), date(x.Begun), clean(x.Reason))
	}
	for _, n := range x.Notes {
		fmt.Fprintln(w, s.warn("  ! "+clean(n)))
	}
	for i, step := range x.Steps {
		mark := "to do"
		if step.Done {
			mark = "done"
		}
		line := fmt.Sprintf("  %d. %-5s  %s", i+1, mark, step.Step)
		if step.Left != "" {
			line += ": " + clean(step.Left)
		}
		fmt.Fprintln(w, line)
	}
	writeLeaving(w, s, x)
	if len(x.Versions) > 0 {
		fmt.Fprintln(w, "Versions of the old key that are enabled:")
		t := s.table()
		t.title(s, "VAULT", "GENERATION", "VERSION")
		for _, v := range x.Versions {
			t.add(plain(v.Vault, fmt.Sprint(v.Generation), v.Version)...)
		}
		t.write(w, "  ")
	}
	if c := x.Consent; c != nil {
		fmt.Fprintf(w, "%s consented to disable them at %s: %s\n", clean(c.By), date(c.At), clean(c.Reason))
	}
	if !x.Done.IsZero() {
		fmt.Fprintf(
			w,
			"It is over since %s. Write the consumers under %s in the configuration, take %s out of it, then: "+
				"keyd reload\n",
			date(x.Done),
			clean(x.With),
			clean(x.Key),
		)
	}
}

// writeLeaving writes the consumers, and below them what to do about those that keyd does not move.
func writeLeaving(w io.Writer, s style, x status.Replacement) {
	if len(x.Consumers) == 0 {
		fmt.Fprintln(w, "keyd sees no consumer of the key.")
		return
	}
	fmt.Fprintln(w, "Consumers:")
	t := s.table()
	t.title(s, "STATE", "SERVICE", "NAME", "FROM", "TO")
	for _, c := range x.Consumers {
		t.add(plain(c.State, c.Service, c.Name, c.From, c.To)...)
	}
	t.write(w, "  ")
	for _, c := range x.Consumers {
		if c.Why != "" {
			fmt.Fprintf(w, "  %s: %s\n", clean(c.Name), clean(c.Why))
		}
		if c.Command != "" {
			fmt.Fprintf(w, "    %s\n", clean(c.Command))
		}
	}
}
