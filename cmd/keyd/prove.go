package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

// provenNow is the answer of prove.
type provenNow struct {
	Key    string         `json:"key"`
	Proofs []status.Proof `json:"proofs"`
}

func (a *app) prove() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use:   "prove KEY",
		Short: "Prove every version of a key now",
		Long: `prove has the daemon prove every enabled version of KEY now, before whatever else waits: the
vault's material is the HSM's, the vault opens what was closed outside, and the HSM opens what the
vault closed. The audit has who asked, and what came of it. It exits 1 if a proof did not pass.`,
		Example: "  keyd prove sa-cmk-key",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, names []string) error {
			snap, err := a.keysOf(cmd.Context(), status.Selection{Only: names, Brief: true})
			if err != nil {
				return err
			}
			k, err := find(snap, names[0])
			if err != nil {
				return err
			}
			proofs, err := a.client().Prove(cmd.Context(), k.Name)
			if err != nil {
				return err
			}
			if len(proofs) == 0 {
				return fmt.Errorf("%s has no version to prove yet: `keyd status %[1]s` shows how far it is", k.Name)
			}
			err = a.show(provenNow{k.Name, proofs}, func(w io.Writer, s style) { writeProofs(w, s, snap, proofs) })
			if err != nil {
				return err
			}
			return notPassed(proofs)
		},
		ValidArgsFunction: a.complete(oneKey),
	})
}

func notPassed(proofs []status.Proof) error {
	n := 0
	for _, p := range proofs {
		if p.Outcome != key.Passed {
			n++
		}
	}
	if n > 0 {
		return fmt.Errorf("%s of %d did not pass: see the runbook, #keydunwrapfailing, before anything is disabled "+
			"or deleted", words.Count(n, "proof"), len(proofs))
	}
	return nil
}

func writeProofs(w io.Writer, s style, snap status.Snapshot, proofs []status.Proof) {
	names := map[string]string{}
	for _, v := range snap.Vaults {
		names[v.URL] = v.Name
	}
	t := s.table()
	t.title(s, "VAULT", "VERSION", "GEN", "PROOF", "REASON")
	for _, p := range proofs {
		vault, outcome := names[p.Vault], string(p.Outcome)
		if vault == "" {
			vault = p.Vault
		}
		if outcome == "" {
			outcome = "not proven"
		}
		t.add(cell{text: vault}, cell{text: p.Version}, cell{text: fmt.Sprint(p.Generation)},
			cell{outcome, proofPaint(s, p.Outcome)}, cell{text: strings.Trim(p.Where()+": "+p.Error, ": ")})
	}
	t.write(w, "")
}
