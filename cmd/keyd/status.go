package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/keyd-project/keyd/internal/status"
)

func (a *app) status() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use:   "status [KEY]",
		Short: "Show how the daemon and its keys are",
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
			i := slices.IndexFunc(snap.Keys, func(k status.Key) bool { return k.Name == names[0] })
			if i < 0 {
				return usagef("there is no key %q; `keyd status` lists them", names[0])
			}
			return a.show(snap.Keys[i], func(w io.Writer, s style) { writeKey(w, s, snap, snap.Keys[i]) })
		},
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
	var t table
	t.add(header(s, "KEY", "STATE", "GENERATION", "VAULTS", "LAST PROOF", "NEXT ROTATION")...)
	for _, k := range troublesFirst(snap.Keys) {
		t.add(keyRow(s, snap, k)...)
	}
	t.write(w, "")
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
	var t table
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

// writeSides shows what keyd stands between: the HSM and the vaults.
func writeSides(w io.Writer, s style, snap status.Snapshot) {
	fmt.Fprintln(w)
	var t table
	up := cell{"up", s.good}
	detail := snap.HSM.Info.Model + " " + snap.HSM.Info.Serial + ", wraps by " + snap.HSM.Info.Wrap
	if !snap.HSM.Up {
		up, detail = cell{"down", s.bad}, snap.HSM.Error
	}
	t.add(cell{text: "HSM"}, cell{text: snap.HSM.Info.Token}, up, cell{text: detail})
	for _, v := range snap.Vaults {
		state, detail := cell{"reachable", s.good}, "seen "+when(snap.At, v.SeenAt)
		if !v.Reachable {
			state, detail = cell{"unreachable", s.bad}, detail+": "+v.Error
		}
		t.add(cell{text: "vault"}, cell{text: v.Name}, state, cell{text: detail})
	}
	t.write(w, "")
}
