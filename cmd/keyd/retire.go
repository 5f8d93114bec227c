package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

func (a *app) retire() *cobra.Command {
	var reason string
	var yes bool
	cmd := &cobra.Command{
		Use:   "retire KEY --reason TEXT",
		Short: "Show which versions a key's retire rule disables and when, and consent to it",
		Long: `retire shows a key's retire rule, the versions that it is to disable, each with its date, and what
the next one waits for. keyd disables nothing before an operator has consented to the rule. retire
records your consent only to what it showed: it asks on a terminal, and needs --yes elsewhere. With
neither, it only shows. The consent ends when the rule or what keyd looks at (consumers, workspaces,
subscriptions) changes, after an adopt, after an enable, and after keyd hsm accept-head.`,
		Example: "  keyd retire sa-cmk-key\n  keyd retire sa-cmk-key --yes --reason \"no backup is older than a year\"",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.retireKey(cmd.Context(), names[0], reason, yes)
		},
		ValidArgsFunction: a.complete(oneKey),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; the audit records it (required to consent)")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "consent without being asked")
	return a.jsonFlag(cmd)
}

func (a *app) retireKey(ctx context.Context, name, reason string, yes bool) error {
	if yes && reason == "" {
		return usagef("--reason is required: the audit records it")
	}
	name, err := a.mustKnow(ctx, name)
	if err != nil {
		return err
	}
	shown, err := a.client().Retirements(ctx, control.RetireQuestion{Key: name})
	if err != nil {
		return err
	}
	r := shown[0]
	if err := a.show(r, func(w io.Writer, s style) { writeRetirement(w, s, r) }); err != nil {
		return err
	}
	if r.Never || r.Consented {
		return nil
	}
	if !yes {
		if !isTerminal(a.in) || a.json || reason == "" {
			a.note("Nothing was recorded. To consent, add --yes --reason TEXT.")
			return nil
		}
		if agreed, err := a.ask(ctx, "Record your consent?"); err != nil || !agreed {
			a.note("Nothing was recorded.")
			return err
		}
	}
	if err := a.client().ConsentToRetire(ctx, name, reason, r.Digest); err != nil {
		return err
	}
	a.note("Your consent is recorded.")
	return nil
}

func writeRetirement(w io.Writer, s style, r status.Retirement) {
	if r.Never {
		fmt.Fprintf(w, "%s has no retire rule: keyd disables nothing.\n", s.bold(r.Key))
		return
	}
	fmt.Fprintf(
		w,
		"%s: keyd disables a version %s after it was superseded in every vault, and waits %s between two.\n",
		s.bold(r.Key),
		seconds(r.DisableAfter),
		seconds(r.Pause),
	)
	writeWaits(w, s, "", r)
	switch c := r.Consent; {
	case c == nil:
		fmt.Fprintln(w, s.warn("No operator has consented to the rule: keyd disables nothing."))
	case !r.Consented:
		fmt.Fprintln(w, s.warn("The consent does not list every version: keyd disables only those that it lists."))
	default:
		fmt.Fprintf(w, "%s consented at %s: %s\n", clean(c.By), date(c.At), clean(c.Reason))
	}
	writeRetiring(w, s, r.Versions)
	fmt.Fprintf(w, "Later versions follow when they have been superseded for %s.\n", seconds(r.DisableAfter))
	if r.Waiting != "" {
		fmt.Fprintf(w, "The next one waits: %s\n", clean(r.Waiting))
	}
	fmt.Fprintf(w, "Digest: %s\n", r.Digest)
}

// writeWaits says what keyd waits for besides the time, before it disables a version.
func writeWaits(w io.Writer, s style, indent string, r status.Retirement) {
	if r.NoConsumers {
		fmt.Fprintln(w, indent+s.warn("The configuration says that nothing in Azure encrypts under the key "+
			"(consumers: none)."))
	}
	if r.UnusedFor > 0 {
		fmt.Fprintf(w, "%sThe vault's audit log must show no use of the version for %s.\n", indent,
			seconds(r.UnusedFor))
	}
	if r.Backups > 0 {
		fmt.Fprintf(w, "%sIt waits %s after the last consumer left the version, for backups that need it.\n", indent,
			seconds(r.Backups))
	}
	if len(r.Consumers) > 0 {
		fmt.Fprintf(w, "%sEach of these must have left the version:\n", indent)
	}
	for _, id := range r.Consumers {
		fmt.Fprintf(w, "%s  %s\n", indent, clean(id))
	}
}

// seconds is a duration without loss.
func seconds(n int64) string { return words.Exactly(time.Duration(n) * time.Second) }

// writeRetiring writes the versions with their dates.
func writeRetiring(w io.Writer, s style, versions []status.Retiring) {
	if len(versions) == 0 {
		fmt.Fprintln(w, "No version is superseded yet.")
		return
	}
	t := s.table()
	t.title(s, "DISABLED NOT BEFORE", "VAULT", "GENERATION", "VERSION", "SUPERSEDED")
	for _, v := range versions {
		t.add(plain(date(v.At), v.Vault, fmt.Sprint(v.Generation), v.Version, date(v.Since))...)
	}
	t.write(w, "  ")
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func (a *app) enable() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "enable KEY VERSION --reason TEXT",
		Short: "Enable a version again that was disabled",
		Long: `enable enables one of keyd's versions of a key again in its vault, whoever disabled it, and waits
until that is done, also while the key is on hold. It ends the consent to the key's retire rule:
keyd disables nothing more of the key before somebody consents again (keyd retire KEY).
keyd status KEY lists the versions.`,
		Example: `  keyd enable sa-cmk-key 4f1d3b6c8a2e4d0f9b7c5a3e1d0f2b4c --reason "it is still needed"`,
		Args:    args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, words []string) error {
			if reason == "" {
				return usagef("--reason is required: the audit records it")
			}
			name, err := a.mustKnow(cmd.Context(), words[0])
			if err != nil {
				return err
			}
			if err := a.client().Enable(cmd.Context(), name, words[1], reason); err != nil {
				return err
			}
			return a.say(outcome{Done: "enabled", Key: name}, fmt.Sprintf("Version %s of %s is enabled. keyd disables "+
				"nothing more of the key before `keyd retire %[2]s --reason TEXT`.", words[1], name))
		},
		ValidArgsFunction: a.complete(keyAndVersion),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; the audit records it (required)")
	return a.jsonFlag(cmd)
}

// keyAndVersion completes a key, and then the versions of its superseded placements.
func keyAndVersion(snap status.Snapshot, typed []string) (versions []string) {
	if len(typed) == 0 {
		return keyNames(snap)
	}
	k, ok := snap.Key(typed[0])
	if !ok || len(typed) > 1 {
		return nil
	}
	for _, g := range k.Generations {
		for _, p := range g.Placements {
			if p.Version != "" && !p.DisabledAt.IsZero() {
				versions = append(versions, p.Version)
			}
			versions = append(versions, p.DisabledVersions...)
		}
	}
	return versions
}
