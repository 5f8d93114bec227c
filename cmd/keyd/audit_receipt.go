package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyd-project/keyd/internal/audit"
	"github.com/keyd-project/keyd/internal/control"
)

func (a *app) auditReceipt() *cobra.Command {
	var state, root string
	cmd := &cobra.Command{
		Use:   "receipt KEY [GENERATION]",
		Short: "Show the receipt of one rotation",
		Long: `receipt collects from the audit chain everything about one generation of KEY, by default the newest:
who requested it and why, the HSM that made it, its CKA_ID and fingerprint, and for each vault the key
exchange key, the version and the result of the verification, with the time of each. What a Managed HSM
attested is verified again, as of the time when it was recorded.`,
		Example: "  keyd audit receipt sa-cmk-key\n  keyd audit receipt sa-cmk-key 3 --json",
		Args:    args(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, names []string) error {
			generation := 0
			if len(names) == 2 {
				var err error
				if generation, err = strconv.Atoi(names[1]); err != nil || generation < 1 {
					return usagef("%q is not the number of a generation", names[1])
				}
			}
			chain, done, err := a.chain(cmd.Context(), state)
			if err != nil {
				return err
			}
			receipts := audit.NewReceipts(names[0])
			if root != "" {
				if receipts.Roots, err = readTestRoot(root); err != nil {
					return errors.Join(err, done())
				}
			}
			err = chain.Audit(cmd.Context(), 0, "", func(e control.AuditEntry) error {
				receipts.Add(e.Seq, e.Entry)
				return nil
			})
			if err := errors.Join(err, done()); err != nil {
				return err
			}
			r, err := receipts.Of(generation)
			if err != nil {
				return usagef("%v", err)
			}
			return a.show(r, func(w io.Writer, s style) { writeReceipt(w, s, r) })
		},
	}
	stateFlag(cmd, &state)
	testRootFlag(cmd, &root)
	return a.jsonFlag(cmd)
}

func writeReceipt(w io.Writer, s style, r audit.Receipt) {
	fmt.Fprintln(w, s.bold(oneLine(fmt.Sprintf("Receipt: %s, generation %d (%s)", r.Key, r.Generation, r.Spec))))
	t := &lines{s.table()}
	t.add("asked by", r.AskedBy+said(r.Reason), r.Reserved)
	if !r.SpareSince.IsZero() {
		t.add("made in advance", "as a spare", r.SpareSince)
	}
	for _, q := range r.Requests {
		t.add("request", q.By+said(q.Reason), q.At)
	}
	h := r.HSM
	t.add(
		"HSM",
		strings.TrimSpace(
			fmt.Sprintf(
				"%s %s, serial %s, firmware %s, token %s",
				dash(h.Manufacturer),
				dash(h.Model),
				dash(h.Serial),
				dash(h.Firmware),
				dash(h.Token),
			),
		),
		time.Time{},
	)
	for _, id := range r.GivenUp {
		t.add("given up", "CKA_ID "+string(id), time.Time{})
	}
	t.add("CKA_ID", string(r.ID), r.Made)
	t.add("fingerprint", dash(string(r.Fingerprint)), r.Pinned)
	for _, i := range r.Imports {
		t.add("vault", i.Vault+" ("+string(i.Cause)+")", i.Intended)
		t.add("  KEK", i.KEK, time.Time{})
		t.add("  KEK fingerprint", string(i.KEKPrint), time.Time{})
		t.add("  version", dash(i.Version), i.At)
		t.add("  checkpoint", dash(i.Checkpoint), time.Time{})
		result := i.Result
		if i.Checked != "" {
			result += " (" + strings.ReplaceAll(i.Checked, " ", ", ") + ")"
		}
		if i.Detail != "" {
			result += ": " + i.Detail
		}
		t.add("  verification", result, i.Judged)
		if a := i.Attested; a != nil {
			t.add("  attestation", attestedText(*a), a.At)
		}
		if !i.Disabled.IsZero() {
			t.add("  disabled", "by the retire rule", i.Disabled)
		}
	}
	if r.Finished.IsZero() {
		t.add("finished", "not yet in every vault", time.Time{})
	} else {
		t.add("finished", "active in every vault", r.Finished)
	}
	t.add("audit", fmt.Sprintf("entries %d to %d", r.First, r.Last), time.Time{})
	if r.Signed == nil {
		t.add("signed", "not all of it yet", time.Time{})
	} else {
		t.add("signed", fmt.Sprintf("by audit key %s, in entry %d", r.Signed.By, r.Signed.Entry), r.Signed.At)
	}
	t.write(w, "  ")
}

// attestedText says what a Managed HSM said of a version.
func attestedText(a audit.Attested) string {
	switch {
	case a.Contradicts != "":
		return "recorded as verified, but it does not verify again: " + a.Contradicts
	case a.Facts != nil:
		return a.Result + ": " + a.Facts.String()
	}
	return a.Result + ": " + a.Why
}

// lines is a table with the columns what, which and when.
type lines struct{ table }

func (l *lines) add(what, text string, at time.Time) {
	moment := ""
	if !at.IsZero() {
		moment = at.UTC().Format(time.RFC3339)
	}
	l.table.add(plain(what, moment, text)...)
}

func said(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + strconv.Quote(reason)
}

func dash(text string) string { return cmp.Or(text, "–") }
