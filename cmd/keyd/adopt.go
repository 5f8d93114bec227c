package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyd-project/keyd/internal/status"
)

func (a *app) adopt() *cobra.Command {
	var reason string
	var yes, unreserved bool
	cmd := &cobra.Command{
		Use:   "adopt KEY --reason TEXT",
		Short: "Show what keyd does not know about a key, and consent to it",
		Long: `adopt looks in the HSM and in the vaults for generations and versions of a key that its record
lacks, and shows what would follow from taking them over. It records your consent only to what it
showed: it asks on a terminal, and needs --yes elsewhere. With neither, it only shows.

A pair that nobody reserved in this audit chain may be somebody else's. adopt leaves it alone, and keyd imports
it nowhere. Only with --unreserved, a second consent, does it become a generation: for keyd's own pairs after the
state was put back from a backup.`,
		Example: "  keyd adopt sa-cmk-key\n  keyd adopt sa-cmk-key --yes --reason \"state directory was lost\"",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.adoptKey(cmd.Context(), names[0], reason, yes, unreserved)
		},
		ValidArgsFunction: a.complete(oneKey),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; the audit records it (required to consent)")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "consent without being asked")
	cmd.Flags().BoolVar(&unreserved, "unreserved", false, "also use pairs that nobody reserved in this audit chain")
	return a.jsonFlag(cmd)
}

func (a *app) adoptKey(ctx context.Context, name, reason string, yes, unreserved bool) error {
	if yes && reason == "" {
		return usagef("--reason is required: the audit records it")
	}
	name, err := a.mustKnow(ctx, name)
	if err != nil {
		return err
	}
	found, err := a.client().Adoption(ctx, name, unreserved)
	if err != nil {
		return err
	}
	if err := a.show(found, func(w io.Writer, s style) { writeAdoption(w, s, found) }); err != nil {
		return err
	}
	if found.Empty() {
		return nil
	}
	if !yes {
		if !isTerminal(a.in) || a.json || reason == "" {
			a.note("Nothing was recorded. To consent, add --yes --reason TEXT.")
			return nil
		}
		for _, question := range questions(found) {
			if agreed, err := a.ask(ctx, question); err != nil || !agreed {
				a.note("Nothing was recorded.")
				return err
			}
		}
	}
	if err := a.client().Adopt(ctx, name, reason, found.Token); err != nil {
		return err
	}
	a.note("Your consent is recorded.")
	return nil
}

// questions are what a person must agree to.
func questions(found status.Adoption) []string {
	ask := []string{"Record your consent?"}
	used := 0
	for _, p := range found.Pairs {
		if p.Unreserved && p.As != status.LeftAlone && p.As != status.GivenUp {
			used++
		}
	}
	if used > 0 {
		ask = append(
			ask,
			fmt.Sprintf("Nobody reserved %d of these pairs in this audit chain. Do you know that the HSM "+
				"made each for keyd, and not for somebody else?", used),
		)
	}
	return ask
}

func writeAdoption(w io.Writer, s style, found status.Adoption) {
	switch {
	case found.Empty() && found.Open > 0:
		fmt.Fprintf(w, "%s: there is nothing to adopt yet.\n", found.Key)
	case found.Empty():
		fmt.Fprintf(w, "%s: there is nothing to adopt.\n", found.Key)
	}
	if len(found.Rebuild) > 0 {
		fmt.Fprintln(w, s.bold("Generations that the record lacks"))
		t := s.table()
		for _, g := range found.Rebuild {
			t.add(
				plain(
					fmt.Sprintf("generation %d", g.Number),
					"sha256 "+g.Fingerprint.Short(),
					byVault(g.Versions),
				)...)
		}
		t.write(w, "  ")
	}
	if len(found.Pairs) > 0 {
		fmt.Fprintln(w, s.bold("Pairs in the HSM that the record lacks"))
		t := s.table()
		for _, p := range found.Pairs {
			by := ""
			if p.Unreserved {
				by = "reserved by nobody"
			}
			t.add(plain("CKA_ID "+string(p.ID), p.Label, p.As, by)...)
		}
		t.write(w, "  ")
	}
	if len(found.Foreign) > 0 {
		fmt.Fprintln(w, s.bold("Versions whose material is not in the HSM"))
		t := s.table()
		for _, vault := range slices.Sorted(maps.Keys(found.Foreign)) {
			t.add(plain(vault, strings.Join(found.Foreign[vault], ", "))...)
		}
		t.write(w, "  ")
	}
	for _, u := range found.Unknown {
		fmt.Fprintf(w, "%s %s\n", s.warn("Not known:"), clean(u))
	}
	if found.Consequence != "" {
		fmt.Fprintf(w, "%s %s\n", s.bold("What follows:"), clean(found.Consequence))
	}
}

func byVault(versions map[string][]string) string {
	var parts []string
	for _, vault := range slices.Sorted(maps.Keys(versions)) {
		parts = append(parts, vault+" "+strings.Join(versions[vault], ", "))
	}
	return strings.Join(parts, "; ")
}
