package main

import (
	"github.com/spf13/cobra"

	"github.com/keyd-project/keyd/internal/daemon"
	"github.com/keyd-project/keyd/internal/key"
)

func (a *app) acceptSettings() *cobra.Command {
	var path, reason string
	cmd := &cobra.Command{
		Use:   "accept-settings --reason TEXT",
		Short: "Have settings take effect that no second operator can approve",
		Long: `accept-settings is for root, on the machine of the daemon, where nobody is left who could approve a
change of the configuration: the second operator has left, or approvals names too few. At its next reload or
start keyd then acts on the files as they are now, without a second operator. The audit chain keeps that for ever,
with your reason and with what changed. The order ends if the files change before that.`,
		Example: "  keyd accept-settings --reason \"bob has left; carl takes over\" && keyd reload",
		Args:    args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if err := key.ValidReason(reason); err != nil {
				return usagef("--reason: %v", err)
			}
			if err := daemon.AcceptSettings(path, reason); err != nil {
				return err
			}
			return a.say(
				outcome{Done: "accepted"},
				"keyd acts on the files as they are now after its next reload or start: "+
					"keyd reload",
			)
		},
	}
	cmd.Flags().StringVar(&path, "config", defaultConfig, "the configuration")
	cmd.Flags().StringVar(&reason, "reason", "", "why; it stays in the audit for ever (required)")
	return a.jsonFlag(cmd)
}
