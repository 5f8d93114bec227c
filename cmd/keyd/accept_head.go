package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/keyd-project/keyd/internal/daemon"
	"github.com/keyd-project/keyd/internal/hsm"
	"github.com/keyd-project/keyd/internal/key"
)

func (a *app) acceptHead() *cobra.Command {
	var path, head, reason string
	cmd := &cobra.Command{
		Use:   "accept-head --head SEQ:HASH --reason TEXT",
		Short: "Accept an audit chain that does not continue what the HSM signed last",
		Long: `accept-head is for root, on the HSM side's machine, after a backup of the state was put back, or
after the HSM side's own directory was lost. The HSM side signs the audit chain only if it continues the
head that it signed last. With this command the HSM side signs, at its next checkpoint, that the chain goes on
from another head, with your reason. That stays in the chain for ever, and keyd audit verify reports it.

Find out first why the chain differs: somebody may have changed it. The journal of keyd shows the head that
the chain has; keyd audit export and the last export that you kept show what is different.`,
		Example: "  keyd hsm accept-head --head 57:sha256:… --reason \"restored the backup of 1 March\"",
		Args:    args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			seq, hash, err := key.ParseMark(head)
			if err != nil {
				return usagef("--head: %v", err)
			}
			if err := key.ValidReason(reason); err != nil {
				return usagef("--reason: %v", err)
			}
			done, err := daemon.AcceptHead(path, seq, hash, reason)
			if err != nil {
				return err
			}
			return a.show(done, func(w io.Writer, _ style) { writeAcceptedHead(w, done) })
		},
	}
	cmd.Flags().StringVar(&path, "config", defaultConfig, "the configuration")
	cmd.Flags().StringVar(&head, "head", "", "the head to go on from, as keyd's journal shows it (required)")
	cmd.Flags().StringVar(&reason, "reason", "", "why; it stays in the audit for ever (required)")
	return a.jsonFlag(cmd)
}

func writeAcceptedHead(w io.Writer, done hsm.Accepted) {
	if done.Old == "" {
		fmt.Fprintln(w, "The HSM side does not remember which head it signed last.")
	} else {
		fmt.Fprintf(w, "The HSM side signed last: %s\n", done.Old)
	}
	fmt.Fprintf(w, "It goes on from:          %s\n", done.New)
	fmt.Fprintln(w, "It signs that at the next checkpoint; to have one now: keyd audit checkpoint")
}
