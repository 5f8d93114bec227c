package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

func (a *app) check() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use:   "check",
		Short: "Try everything the daemon needs, and say what to do",
		Long: `check has the daemon try what it needs: the HSM with its module, mechanisms and PIN, its
identity, each right in every vault, firewalls, key exchange keys, clocks, its store, and
every version of every key. It changes nothing: rights are tried on a key that does not
exist. It compares the audit chain with the marks in the vaults, which shows whether the end of
the chain was cut off. What cannot be checked because of what another line says is skipped. It
exits 1 if any check failed; a warning does not count.

The daemon makes and imports every configured key as soon as it runs. So before going live run it
with vaults and no key in the configuration: it then tries the rights that a plain key needs.`,
		Example: "  keyd check",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkHostZone(); err != nil {
				return err
			}
			checks, err := a.client().Check(cmd.Context())
			if err != nil {
				return err
			}
			if err := a.show(checks, func(w io.Writer, s style) { writeChecks(w, s, checks) }); err != nil {
				return err
			}
			return failedChecks(checks)
		},
	})
}

func failedChecks(checks []status.Check) error {
	failed := 0
	for _, c := range checks {
		if c.Result == status.CheckFailed {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%s of %d failed", words.Count(failed, "check"), len(checks))
	}
	return nil
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
