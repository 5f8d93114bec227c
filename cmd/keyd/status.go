package main

import (
	"context"
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
	var all, watch, exitCode bool
	var sel status.Selection
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "status [KEY]",
		Short: "Show the state of the daemon and its keys",
		Long: `status shows problems first, then every key: its state, its newest generation, in how many of
its vaults that is active, its last proof and its next rotation. Where there are more than 50 keys
it shows those that need somebody or are under way, and counts the others by state and vault; --all
shows all of them, and --json always does. With KEY it shows that key's generations, the versions
they have in each vault, their proofs, and who uses the key. What follows from a problem is counted
under it.

--label and --vault leave the keys of a group, with their vaults and problems, and --problems those
that need somebody. --watch draws on a terminal again and again, until Ctrl-C. With --exit-code it
exits 1 while there is a critical problem among those that it shows.`,
		Example: "  keyd status\n  keyd status --all\n  keyd status sa-cmk-key\n" +
			"  keyd status --label prod --vault contoso-weu --watch\n  keyd status --json | jq '.keys[].state'",
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, names []string) error {
			if len(names) > 0 && (sel.Narrows() || all) {
				return usagef("name a key, or choose a group by flags: not both")
			}
			critical := 0
			show := func(ctx context.Context, w io.Writer) (err error) {
				critical, err = a.statusOfAll(ctx, w, sel)
				return err
			}
			if len(names) > 0 {
				show = func(ctx context.Context, w io.Writer) (err error) {
					critical, err = a.statusOf(ctx, w, names[0])
					return err
				}
			}
			sel.Few = !all && !a.json && !sel.Troubled
			if watch {
				return a.watchStatus(cmd.Context(), show)
			}
			if err := show(cmd.Context(), a.out); err != nil {
				return err
			}
			return judged(exitCode, critical)
		},
		ValidArgsFunction: a.complete(oneKey),
	})
	flags := cmd.Flags()
	flags.BoolVar(&all, "all", false, "show every key and every problem, however many there are")
	flags.BoolVar(&sel.Troubled, "problems", false, "only the keys that need somebody, and every problem")
	flags.StringVar(&sel.Vault, "vault", "", "only the keys of this vault")
	flags.BoolVar(&exitCode, "exit-code", false, "exit 1 while there is a critical problem")
	flags.BoolVar(&watch, "watch", false, "show it again and again, on a terminal")
	a.labelFlag(cmd, &sel.Labels, "only the keys with this label")
	_ = cmd.RegisterFlagCompletionFunc("vault", a.complete(vaultNames)) // fails only for a flag that does not exist
	return cmd
}

// judged is the error of --exit-code.
func judged(exitCode bool, critical int) error {
	if !exitCode || critical == 0 {
		return nil
	}
	return fmt.Errorf("%s: see above, worst first", words.Count(critical, "critical problem"))
}

// criticals counts the critical problems of a snapshot.
func criticals(snap status.Snapshot) (n int) {
	for _, p := range snap.Problems {
		if p.Severity == status.Critical {
			n++
		}
	}
	return n
}

// statusOfAll shows the daemon and the keys that were chosen, and counts the critical problems.
func (a *app) statusOfAll(ctx context.Context, w io.Writer, sel status.Selection) (critical int, err error) {
	ask := a.client().Snapshot
	if sel.Narrows() {
		ask = a.chosen
	}
	snap, err := ask(ctx, sel)
	if err != nil {
		return 0, err
	}
	return criticals(snap), a.showOn(w, snap, func(w io.Writer, s style) { writeSnapshot(w, s, snap, sel) })
}

// statusOf shows one key, and counts the critical problems about it.
func (a *app) statusOf(ctx context.Context, w io.Writer, name string) (critical int, err error) {
	snap, err := a.keysOf(ctx, status.Selection{Only: []string{name}})
	if err != nil {
		return 0, err
	}
	k, err := find(snap, name)
	if err != nil {
		return 0, err
	}
	return criticals(snap), a.showOn(w, k, func(w io.Writer, s style) { writeKey(w, s, snap, k) })
}

func writeSnapshot(w io.Writer, s style, snap status.Snapshot, sel status.Selection) {
	writeHeadline(w, s, snap)
	writeProblems(w, s, snap.Problems)
	if n := moreProblems(snap); n > 0 {
		fmt.Fprintf(w, "  and %s: keyd status --all\n", words.Count(n, "more problem"))
	}
	if n := len(snap.Proposals); n > 0 {
		fmt.Fprintf(w, "%s for a second operator: keyd approvals\n", s.warn("Waiting: "+words.Count(n, "act")))
	}
	writeSides(w, s, snap)
	fmt.Fprintln(w)
	if snap.Summary.Keys == 0 && sel.Narrows() {
		fmt.Fprintln(w, noneOf(sel))
		return
	}
	if snap.Summary.Keys == 0 {
		fmt.Fprintln(w, "There are no keys. Add one under `keys:` in the configuration, then run `keyd reload`.")
		return
	}
	if snap.Summary.Keys <= status.FewKeys || sel.Troubled {
		writeKeys(w, s, snap)
		if snap.Summary.Keys > 1 {
			fmt.Fprintf(w, "\n%s\n", tally(snap.Summary.States))
		}
		return
	}
	fmt.Fprintln(w, tally(snap.Summary.States)) // before the keys, which fill a screen
	writeRest(w, snap)
	if len(snap.Keys) > 0 {
		fmt.Fprintln(w)
		writeKeys(w, s, snap)
	}
}

// noneOf says that a selection left no key.
func noneOf(sel status.Selection) string {
	if sel.Troubled {
		return "No key needs anybody."
	}
	return "No key is among those that were asked for."
}

func writeKeys(w io.Writer, s style, snap status.Snapshot) {
	t := s.table()
	t.title(s, "KEY", "STATE", "GEN", "VAULTS", "LAST PROOF", "NEXT ROTATION")
	for _, k := range troublesFirst(snap.Keys) {
		t.add(keyRow(s, snap, k)...)
	}
	t.write(w, "")
}

// writeRest says which keys follow, and how to see the others.
func writeRest(w io.Writer, snap status.Snapshot) {
	const others = "keyd status --all lists every key, keyd status KEY shows one."
	found := snap.Summary.Found
	switch shown := len(snap.Keys); shown {
	case snap.Summary.Keys:
	case 0:
		fmt.Fprintln(w, "No key needs anybody.", others)
	case found:
		fmt.Fprintln(w, "Below are the keys that need somebody or are under way.", others)
	default:
		fmt.Fprintf(w, "Below are %d of the %d keys that need somebody or are under way. %s\n", shown, found, others)
	}
}

// moreProblems is how many problems are not shown.
func moreProblems(snap status.Snapshot) int {
	n := -len(snap.Problems)
	for _, of := range snap.Summary.Problems {
		n += of
	}
	return n
}

// tally counts the keys by state, the worst first.
func tally(states map[string]int) string {
	var parts []string
	all := 0
	worstFirst := func(x, y string) int { return status.Rank(x) - status.Rank(y) }
	for _, state := range slices.SortedFunc(maps.Keys(states), worstFirst) {
		parts = append(parts, fmt.Sprintf("%d %s", states[state], state))
		all += states[state]
	}
	return clean(fmt.Sprintf("%s: %s", words.Count(all, "key"), strings.Join(parts, ", ")))
}

func writeHeadline(w io.Writer, s style, snap status.Snapshot) {
	ready := s.good("ready")
	if !snap.Ready {
		ready = s.warn("not ready yet")
	}
	fmt.Fprintf(w, "keyd %s, instance %s, up %s, %s\n",
		clean(snap.Version), clean(snap.Instance), span(snap.At.Sub(snap.Started)), ready)
	if snap.Hosts != nil {
		fmt.Fprintln(w, clean(snap.Hosts.Words()))
	}
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
		if len(p.Effects) > 0 {
			t.add(plain("", "", "  "+strings.Join(p.Effects, "; "))...)
		}
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
		state, detail := vaultCells(s, snap.At, v)
		if snap.Summary.Keys > status.FewKeys && len(v.Keys) > 0 {
			detail += "; " + tally(v.Keys)
		}
		t.add(cell{text: "vault"}, cell{text: v.Name}, state, cell{text: detail})
	}
	if snap.Hosts != nil {
		for _, h := range snap.Hosts.Hosts {
			t.add(hostRow(s, snap.Hosts, h)...)
		}
	}
	t.write(w, "")
}

// hostRow shows a host, and what keeps it from leading.
func hostRow(s style, all *status.Hosts, h status.Host) []cell {
	state := cell{all.State(h), s.good}
	detail := []string{"keyd " + h.Version}
	switch state.text {
	case status.HostUnable, status.HostSilent:
		state.paint = s.warn
	}
	if !h.Alive {
		detail = append(detail, "last heard of "+span(h.Age.Duration())+" ago")
	}
	for _, in := range all.Differences(h) {
		detail = append(detail, "another "+string(in))
	}
	if h.Trouble != "" {
		detail = append(detail, h.Trouble)
	}
	return []cell{{text: "host"}, {text: h.Name}, state, {text: strings.Join(detail, ", ")}}
}

// vaultCells are the state of a vault, and since when keyd knows it.
func vaultCells(s style, now time.Time, v status.Vault) (state cell, detail string) {
	state, detail = cell{v.State(), s.warn}, "not seen since keyd started"
	if !v.SeenAt.IsZero() {
		detail = "seen " + when(now, v.SeenAt)
	}
	switch v.State() {
	case status.VaultReachable:
		state.paint = s.good
	case status.VaultUnreachable:
		state.paint = s.bad
		detail += ": " + v.Error
	case status.VaultUnasked:
		detail = ""
	}
	return state, detail
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
