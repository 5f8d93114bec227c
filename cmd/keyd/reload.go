package main

import "github.com/spf13/cobra"

func (a *app) reload() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use:   "reload",
		Short: "Make the daemon read its configuration again",
		Long: `reload makes the daemon read its configuration again. When anything in it is wrong,
the daemon goes on with the one it has, and every mistake is shown.

Where the configuration has approvals, a change of who may act, of pins, of the vaults of keys, of retire rules and
of approvals needs a second operator. reload then shows what waits and exits with 5; the rest is in force.`,
		Example: "  keyd plan --config /etc/keyd/keyd.yaml && keyd reload",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.client().Reload(cmd.Context()); err != nil {
				return err
			}
			return a.say(outcome{Done: "reloaded"}, "The daemon now uses the configuration.")
		},
	})
}
