package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyd-project/keyd/internal/audit"
)

func (a *app) auditExport() *cobra.Command {
	var r audit.Request
	var since, until, format, state string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the audit chain, or a part of it, to the standard output",
		Long: `export writes the audit chain, or the part that the flags ask for, as JSON with one entry on each line,
or as CSV for a spreadsheet. The JSON has all that keyd audit verify needs to check it without keyd's HSM
or state: it has the hashes of the entries that the flags leave out. CSV cannot be verified.`,
		Example: "  keyd audit export >audit.jsonl\n  keyd audit export --key sa-cmk-key --since 2026-01-01 " +
			"--until 2026-03-31 >q1.jsonl\n" +
			"  keyd audit export --format csv >audit.csv",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now()
			var err1, err2 error
			r.Since, err1 = parseTime("since", since, now)
			r.Until, err2 = parseTime("until", until, now)
			if err := errors.Join(err1, err2); err != nil {
				return err
			}
			if r.Format = audit.Format(format); r.Format != audit.JSON && r.Format != audit.CSV {
				return usagef("--format %q: it is json or csv", format)
			}
			if !r.Until.IsZero() && r.Until.Before(r.Since) {
				return usagef("--until is before --since: there is nothing between them")
			}
			chain, done, err := a.chain(cmd.Context(), state)
			if err != nil {
				return err
			}
			return errors.Join(chain.ExportAudit(cmd.Context(), r, a.out), done())
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "only entries since then: 24h, 2026-01-31 or an RFC 3339 time")
	cmd.Flags().StringVar(&until, "until", "", "only entries until then; a day counts to its end")
	cmd.Flags().StringVar(&r.Key, "key", "", "only this key's entries, and the checkpoints")
	cmd.Flags().StringVar(&format, "format", string(audit.JSON), "json or csv")
	stateFlag(cmd, &state)
	return cmd
}

func (a *app) auditKey() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use:   "key",
		Short: "Show the public half of the audit key in the HSM",
		Long: `key prints the public half of the audit key, as PEM. Give it to the auditor once, out of band:
with it keyd audit verify shows that the HSM signed an export.`,
		Example: "  keyd audit key >audit-key.pem",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := a.client().AuditKey(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(k, func(w io.Writer, _ style) { fmt.Fprint(w, clean(k.PEM)) })
		},
	})
}

func (a *app) auditCheckpoint() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use:   "checkpoint",
		Short: "Sign the head of the audit chain now",
		Long: `checkpoint has the HSM sign the head of the audit chain now, such as before an export. keyd does ` +
			`it by itself
before each import, after each rotation and daily. It prints the mark that keyd audit verify --expect takes.`,
		Example: "  keyd audit checkpoint",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client().Checkpoint(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(c, func(w io.Writer, _ style) { fmt.Fprintln(w, clean(c.Mark())) })
		},
	})
}
