package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

func (a *app) status() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use:   "status [KEY]",
		Short: "Show the state of the daemon and its keys",
		Long: `status shows problems first, then every key: its state, its newest generation, in how many of
its vaults that is active, its last proof and its next rotation. With KEY it shows that key's
generations, the versions they have in each vault, and their proofs.`,
		Example: "  keyd status\n  keyd status sa-cmk-key\n  keyd status --json | jq '.keys[].state'",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, names []string) error {
			snap, err := a.client().Snapshot(cmd.Context())
			if err != nil {
				return err
			}
			if len(names) == 0 {
				return a.show(snap, func(w io.Writer, s style) { writeSnapshot(w, s, snap) })
			}
			k, err := find(snap, names[0])
			if err != nil {
				return err
			}
			return a.show(k, func(w io.Writer, s style) { writeKey(w, s, snap, k) })
		},
		ValidArgsFunction: a.complete(oneKey),
	})
}

func writeSnapshot(w io.Writer, s style, snap status.Snapshot) {
	writeHeadline(w, s, snap)
	writeProblems(w, s, snap.Problems)
	writeSides(w, s, snap)
	fmt.Fprintln(w)
	if len(snap.Keys) == 0 {
		fmt.Fprintln(w, "There are no keys. Add one under `keys:` in the configuration, then run `keyd reload`.")
		return
	}
	t := s.table()
	t.title(s, "KEY", "STATE", "GEN", "VAULTS", "LAST PROOF", "NEXT ROTATION")
	for _, k := range troublesFirst(snap.Keys) {
		t.add(keyRow(s, snap, k)...)
	}
	t.write(w, "")
	if len(snap.Keys) > 1 {
		fmt.Fprintf(w, "\n%s\n", tally(snap.Keys))
	}
}

// tally counts the keys by state, the worst first.
func tally(keys []status.Key) string {
	counts := map[string]int{}
	for _, k := range keys {
		counts[k.State]++
	}
	var parts []string
	for _, state := range slices.SortedFunc(maps.Keys(counts), func(x, y string) int { return rank(x) - rank(y) }) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[state], state))
	}
	return clean(fmt.Sprintf("%s: %s", words.Count(len(keys), "key"), strings.Join(parts, ", ")))
}

func writeHeadline(w io.Writer, s style, snap status.Snapshot) {
	ready := s.good("ready")
	if !snap.Ready {
		ready = s.warn("not ready yet")
	}
	fmt.Fprintf(w, "keyd %s, instance %s, up %s, %s\n",
		clean(snap.Version), clean(snap.Instance), span(snap.At.Sub(snap.Started)), ready)
}

func writeProblems(w io.Writer, s style, problems []status.Problem) {
	if len(problems) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", s.bold("PROBLEMS"))
	t := s.table()
	for _, p := range problems {
		paint := s.warn
		if p.Severity == status.Critical {
			paint = s.bad
		}
		subject := p.Key
		if p.Vault != "" && subject != "" {
			subject += " in "
		}
		t.add(cell{string(p.Severity), paint}, cell{text: subject + p.Vault}, cell{text: p.Text})
		if p.Remedy != "" {
			t.add(plain("", "", "→ "+p.Remedy)...)
		}
	}
	t.write(w, "  ")
}

// writeSides shows the two sides that keyd connects: the HSM and the vaults.
func writeSides(w io.Writer, s style, snap status.Snapshot) {
	fmt.Fprintln(w)
	t := s.table()
	t.add(hsmRow(s, snap.At, snap.HSM)...)
	for _, v := range snap.Vaults {
		state, detail := cell{"reachable", s.good}, "seen "+when(snap.At, v.SeenAt)
		if !v.Reachable {
			state, detail = cell{"unreachable", s.bad}, detail+": "+v.Error
		}
		t.add(cell{text: "vault"}, cell{text: v.Name}, state, cell{text: detail})
	}
	t.write(w, "")
}

// hsmRow shows the state of the HSM side, and its age.
func hsmRow(s style, now time.Time, h status.HSM) []cell {
	state, seen := cell{h.State(), s.warn}, ""
	if !h.SeenAt.IsZero() {
		seen = "seen " + when(now, h.SeenAt)
	}
	var parts []string
	switch h.State() {
	case status.HSMUp:
		state.paint = s.good
		parts = []string{h.Info.Model + " " + h.Info.Serial, "wraps by " + h.Info.Wrap, seen}
	case status.HSMDegraded, status.HSMDown:
		state.paint = s.bad
		if !h.Since.IsZero() {
			parts = append(parts, "since "+span(now.Sub(h.Since)))
		}
		parts = append(parts, seen)
	}
	detail := strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), ", ")
	if why := h.Trouble(); why != "" {
		detail = strings.TrimPrefix(detail+": "+why, ": ")
	}
	return []cell{{text: "HSM"}, {text: h.Info.Token}, state, {text: detail}}
}
