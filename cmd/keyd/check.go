package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

func (a *app) check() *cobra.Command {
	var quiet bool
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "check [KEY|VAULT]",
		Short: "Try everything the daemon needs, and say what to do",
		Long: `check has the daemon try what it needs: the HSM with its module, mechanisms and PIN, its
identity, each right in every vault, firewalls, key exchange keys, clocks, its store, and
every version of every key. It changes nothing: rights are tried on a key that does not
exist. For each service that encrypts under a key it goes through the set-up: identity, rights,
network, protection. It compares the audit chain with the marks in the vaults, which shows whether
the end of the chain was cut off. What cannot be checked because of what another line says is skipped. It
exits 1 if any check failed; a warning does not count. On a terminal it shows how far it is.

With KEY it tries the HSM, the identity, that key and its vaults; with VAULT the identity and that
vault. With --quiet it shows only what is not ok.

The daemon makes and imports every configured key as soon as it runs. So before going live run it
with vaults and no key in the configuration: it then tries the rights that a plain key needs.`,
		Example: "  keyd check\n  keyd check sa-cmk-key\n  keyd check --quiet",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := checkHostZone(); err != nil {
				return err
			}
			tell, end := a.progress()
			checked, err := a.client().Check(cmd.Context(), strings.Join(names, ""), tell)
			if end(); err != nil {
				return err
			}
			failed := failedChecks(checked)
			if quiet {
				checked.Checks = slices.DeleteFunc(checked.Checks,
					func(c status.Check) bool { return c.Result == status.CheckOK })
			}
			return errors.Join(a.show(checked, func(w io.Writer, s style) { writeChecked(w, s, checked) }), failed)
		},
		ValidArgsFunction: a.complete(oneKeyOrVault),
	})
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "show only what is not ok")
	return cmd
}

func failedChecks(c status.Checked) error {
	if failed := c.Summary[status.CheckFailed]; failed > 0 {
		return fmt.Errorf("%s of %d failed", words.Count(failed, "check"), len(c.Checks))
	}
	return nil
}

// writeChecked shows the checks, and below them how many had which result. It shows nothing if there is no check.
func writeChecked(w io.Writer, s style, c status.Checked) {
	if len(c.Checks) == 0 {
		return
	}
	writeChecks(w, s, c.Checks)
	results := []status.CheckResult{status.CheckOK, status.CheckWarning, status.CheckFailed}
	for _, other := range slices.Sorted(maps.Keys(c.Summary)) {
		if !slices.Contains(results, other) {
			results = append(results, other)
		}
	}
	all := 0
	var parts []string
	for _, r := range results {
		all += c.Summary[r]
		parts = append(parts, fmt.Sprintf("%d %s", c.Summary[r], r))
	}
	fmt.Fprintf(w, "\n%s: %s\n", words.Count(all, "check"), strings.Join(parts, ", "))
}

func writeChecks(w io.Writer, s style, checks []status.Check) {
	paint := map[status.CheckResult]func(string) string{
		status.CheckOK: s.good, status.CheckWarning: s.warn, status.CheckFailed: s.bad,
		status.CheckSkipped: s.warn,
	}
	t := s.table()
	t.title(s, "RESULT", "AREA", "SUBJECT", "CHECK", "REASON")
	for _, c := range checks {
		t.add(
			cell{string(c.Result), paint[c.Result]},
			cell{text: c.Area},
			cell{text: c.Subject},
			cell{text: c.Name},
			cell{text: c.Detail},
		)
		if c.Remedy != "" {
			t.add(plain("", "→ "+c.Remedy)...)
		}
	}
	t.write(w, "")
}
