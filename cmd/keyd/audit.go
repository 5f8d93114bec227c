package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyd-project/keyd/internal/audit"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/daemon"
)

func (a *app) audit() *cobra.Command {
	var keyName, since, state string
	var verify, verbose bool
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show, export and verify the audit chain",
		Long: `audit shows every change of state and every request, oldest first. On a terminal each
entry has one line, cut to its width; --verbose shows all of it, as elsewhere.
--verify walks the whole hash chain instead, and says whether it is internally consistent, or
where it is not; then it exits 1. With --json there is one entry on each line. --state reads a
state directory or a file of keyd backup itself, while no daemon has it open, or the store that a
configuration (FILE.yaml) names; it changes nothing.

The chain's head is signed by an audit key in the HSM before each import, after each rotation and
daily. For an auditor: export writes a file, verify checks it anywhere, receipt shows one rotation.`,
		Example: "  keyd audit --key sa-cmk-key --since 24h\n  keyd audit --since 2026-01-31 --json\n  keyd " +
			"audit --verify\n  keyd audit --verify --state /var/lib/keyd",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, err := parseTime("since", since, time.Now())
			if err != nil {
				return err
			}
			chain, done, err := a.chain(cmd.Context(), state)
			if err != nil {
				return err
			}
			if verify {
				return errors.Join(a.verifyAudit(cmd.Context(), chain), done())
			}
			return errors.Join(a.listAudit(cmd.Context(), chain, keyName, from, verbose), done())
		},
	}
	cmd.Flags().StringVar(&keyName, "key", "", "only this key's entries")
	cmd.Flags().StringVar(&since, "since", "", "only entries since then: 24h, 2026-01-31 or an RFC 3339 time")
	cmd.Flags().BoolVar(&verify, "verify", false, "walk the whole chain and say whether it is consistent")
	cmd.Flags().BoolVar(&verbose, "verbose", false, "show all of each entry on a terminal, too")
	stateFlag(cmd, &state)
	cmd.AddCommand(a.auditExport(), a.auditVerify(), a.auditReceipt(), a.auditKey(), a.auditCheckpoint())
	return a.jsonFlag(cmd)
}

func stateFlag(cmd *cobra.Command, state *string) {
	cmd.Flags().StringVar(state, "state", "", "read this state directory, file or configuration's store, without a "+
		"daemon")
}

// auditSource is the audit chain, from the daemon or from a state file.
type auditSource interface {
	Audit(ctx context.Context, from uint64, key string, fn func(control.AuditEntry) error) error
	VerifyAudit(ctx context.Context) (control.AuditReport, error)
	ExportAudit(ctx context.Context, r audit.Request, w io.Writer) error
}

// chain returns the daemon's chain, or opens the state that --state names; done closes it.
func (a *app) chain(ctx context.Context, state string) (c auditSource, done func() error, err error) {
	if state == "" {
		return a.client(), func() error { return nil }, nil
	}
	file, err := daemon.OpenStateAudit(ctx, state)
	if err != nil {
		return nil, nil, err
	}
	return file, file.Close, nil
}

// parseTime reads the flag's time. A day means its beginning; for --until it means its end.
func parseTime(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	t, err := time.ParseInLocation(time.DateOnly, s, time.Local)
	if err != nil {
		return t, usagef(
			"--%s %q: write a duration such as 24h, a day such as 2026-01-31, or an RFC 3339 time",
			flag,
			s,
		)
	}
	if flag == "until" {
		t = t.AddDate(0, 0, 1).Add(-time.Nanosecond)
	}
	return t, nil
}

func (a *app) listAudit(ctx context.Context, c auditSource, keyName string, from time.Time, verbose bool) error {
	out := bufio.NewWriter(a.out)
	show := func(e control.AuditEntry) error { return writeEntry(out, e) }
	if s := a.style(); s.width > 0 && !verbose {
		show = func(e control.AuditEntry) error { return writeShortEntry(out, s, e) }
	}
	if a.json {
		enc := json.NewEncoder(out)
		show = func(e control.AuditEntry) error { return enc.Encode(e) }
	}
	none := true
	err := c.Audit(ctx, 0, keyName, func(e control.AuditEntry) error {
		if e.Time.Before(from) {
			return nil
		}
		none = false
		return show(e)
	})
	if err == nil && none {
		a.note("No audit entry matches.")
	}
	return errors.Join(err, out.Flush())
}

func writeEntry(w io.Writer, e control.AuditEntry) error {
	line := fmt.Sprintf("%6d  %s  %s  %s  by %s", e.Seq, e.Time.UTC().Format(time.RFC3339), e.Key, e.Event, e.Actor)
	for _, name := range slices.Sorted(maps.Keys(e.Fields)) {
		line += fmt.Sprintf("  %s=%s", name, shortened(e.Fields[name]))
	}
	_, err := fmt.Fprintln(w, oneLine(line))
	return err
}

// shortened quotes a field's value. One that nobody reads, such as an attestation, is left to --json.
func shortened(value string) string {
	const most = 500
	if len(value) <= most {
		return strconv.Quote(value)
	}
	return fmt.Sprintf("(%d characters, see --json)", len(value))
}

func (a *app) verifyAudit(ctx context.Context, c auditSource) error {
	r, err := c.VerifyAudit(ctx)
	if err != nil {
		return err
	}
	if err := a.show(r, func(w io.Writer, s style) { writeReport(w, s, r) }); err != nil {
		return err
	}
	if !r.Consistent {
		return errors.New("the audit chain is not consistent")
	}
	return nil
}

func writeReport(w io.Writer, s style, r control.AuditReport) {
	if !r.Consistent {
		fmt.Fprintf(w, "%s: %s\n", s.bad("NOT consistent"), clean(r.Problem))
		return
	}
	fmt.Fprintf(w, "%s: %d entries, head %s\n", s.good("internally consistent"), r.Entries, r.Head)
	fmt.Fprintln(
		w,
		"Compare the head with one that you noted elsewhere: a chain rewritten end to end is consistent, too.",
	)
}
