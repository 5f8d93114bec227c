package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyd-project/keyd/internal/audit"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/words"
)

func (a *app) auditVerify() *cobra.Command {
	var keyFiles, expect []string
	var known audit.Expect
	cmd := &cobra.Command{
		Use:   "verify FILE --key PUB",
		Short: "Check an exported audit, with nothing but the file and the audit key",
		Long: `verify checks a file of keyd audit export --format json: that each entry is linked to the one before it,
and that the audit key signed it. It needs no daemon, no HSM and no state, and says what was checked and
what was not; if anything is wrong, it exits 1.

PUB is what keyd audit key printed; you may give several keys. Only a mark from elsewhere shows whether
entries were cut off the end: the tag keyd-checkpoint of a version in a vault, or CHECKPOINT in the
journal. --expect takes such a mark, and requires that the file has it, signed.

A break is a point from which the chain does not continue what the audit key signed before, such as after a
backup was put back; root accepted it beside the HSM. verify reports each, and exits 1 unless you know of it and
name it with --accept-break.`,
		Example: "  keyd audit verify audit.jsonl --key audit-key.pem\n  keyd audit verify audit.jsonl --key " +
			"audit-key.pem --expect 57:sha256:…",
		Args: args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, names []string) error {
			keys, err := readKeys(keyFiles)
			if err != nil {
				return err
			}
			for _, text := range expect {
				seq, head, err := key.ParseMark(text)
				if err != nil {
					return usagef("--expect: %v", err)
				}
				known.Marks = append(known.Marks, audit.Mark{Seq: seq, Head: head})
			}
			return a.verifyFile(names[0], keys, known)
		},
	}
	cmd.Flags().
		StringArrayVar(&keyFiles, "key", nil, "a file with the audit key's public half (PEM); may be repeated "+
			"(required)")
	cmd.Flags().
		StringArrayVar(&expect, "expect", nil, "require this mark, SEQ:HASH, from a version's tag or the "+
			"journal; may be repeated")
	cmd.Flags().
		StringArrayVar(&known.Breaks, "accept-break", nil, "the ID of a break that you know of and accept; "+
			"may be repeated")
	return a.jsonFlag(cmd)
}

func readKeys(files []string) (keys []key.Material, err error) {
	if len(files) == 0 {
		return nil, usagef("--key is required: the public half of the audit key, as `keyd audit key` prints it")
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, usagef("--key: %v", err)
		}
		parsed, err := audit.ParseKeys(text)
		if err != nil {
			return nil, usagef("--key %s: %v", name, err)
		}
		keys = append(keys, parsed...)
	}
	return keys, nil
}

func (a *app) verifyFile(name string, keys []key.Material, known audit.Expect) error {
	f, err := os.Open(name)
	if err != nil {
		return usagef("%v", err)
	}
	defer f.Close()
	v, err := audit.Verify(f, keys, known)
	if errors.Is(err, audit.ErrNotAnExport) {
		return usagef("%s: %v", name, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := a.show(v, func(w io.Writer, s style) { writeVerdict(w, s, name, v) }); err != nil {
		return err
	}
	if !v.OK() {
		return fmt.Errorf("%s does not match what keyd wrote and the audit key signed", name)
	}
	return nil
}

func writeVerdict(w io.Writer, s style, name string, v audit.Verdict) {
	word := s.good("verified")
	if !v.OK() {
		word = s.bad("NOT verified")
	}
	fmt.Fprintf(
		w,
		"%s: %s, the audit of instance %s, exported %s\n",
		oneLine(name),
		word,
		oneLine(v.Instance),
		v.Exported.UTC().Format(time.RFC3339),
	)
	for _, p := range v.Problems {
		fmt.Fprintf(w, "  %s\n", s.bad(oneLine(p)))
	}
	t := s.table()
	line := func(what, format string, args ...any) { t.add(plain(what, fmt.Sprintf(format, args...))...) }
	if v.OK() {
		line("entries", "%d to %d, the last with hash %s", v.First, v.Last, v.Head)
		line("shown", "%d; only the checksums of the other %d", v.Shown, v.LeftOut)
		line("complete", "%s", completeness(v))
		line(
			"signed",
			"to entry %d, at %s, by audit key %s",
			v.SignedTo,
			v.SignedAt.UTC().Format(time.RFC3339),
			v.SignedBy,
		)
		if v.SignedTo < v.Last {
			line("not signed", "entries %d to %d: they follow the last checkpoint", v.SignedTo+1, v.Last)
		}
	}
	for _, k := range v.Keys {
		if k.Given {
			line("audit key", "%s, given: %s", k.Fingerprint, words.Count(k.Checkpoints, "good checkpoint"))
		} else {
			line("audit key", "%s, NOT given: %s not checked", k.Fingerprint, words.Count(k.Checkpoints, "checkpoint"))
		}
	}
	for _, m := range v.Expected {
		line("expected", "%s is here, and signed", m)
	}
	for _, b := range v.Breaks {
		word := "NOT accepted"
		if b.Accepted {
			word = "accepted"
		}
		line("break", "%s, %s: entry %d goes on from %s at %s, and not from %s, because: %q", b.ID, word, b.Entry,
			b.New, b.At.UTC().Format(time.RFC3339), cmp.Or(b.Old, "what is no longer known"), b.Reason)
	}
	t.write(w, "  ")
	if !v.OK() {
		return
	}
	if v.First > 1 {
		fmt.Fprintf(w, "The file does not cover the entries before %d.\n", v.First)
	}
	fmt.Fprintf(
		w,
		"The file cannot show whether the chain continues after entry %d: give a later mark with --expect.\n",
		v.Last,
	)
}

func completeness(v audit.Verdict) string {
	what := "no entry"
	if v.Key != "" {
		what = "no entry of " + oneLine(v.Key)
	}
	if v.CompleteTo == 0 {
		return "no: the first entry is left out"
	}
	return fmt.Sprintf("up to entry %d, %s is left out", v.CompleteTo, what)
}
