package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) repoint() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "repoint KEY [CONSUMER…] --reason TEXT",
		Short: "Move consumers to the newest version of a key",
		Long: `repoint has keyd set consumers of a key to its newest version: those that are named, by their resource
ids or the last parts of these, or else all that the configuration says keyd moves (follow: keyd).
keyd moves them one after the other, once the newest version is proven. One that fails stops the
others; repoint also has keyd try again after that. What is asked for lapses after a day.
keyd consumers KEY shows how far it is.`,
		Example: `  keyd repoint cog-cmk-key --reason "the role was missing"
  keyd repoint cog-cmk-key ai-contoso --reason "by hand"`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, words []string) error {
			if reason == "" {
				return usagef("--reason is required: the audit records it")
			}
			name, err := a.mustKnow(cmd.Context(), words[0])
			if err != nil {
				return err
			}
			if err := a.client().Repoint(cmd.Context(), name, reason, words[1:]); err != nil {
				return err
			}
			return a.say(outcome{Done: "repoint requested", Key: name}, fmt.Sprintf("keyd moves the consumers of %s, "+
				"one after the other; keyd consumers %[1]s shows how far it is.", name))
		},
		ValidArgsFunction: a.complete(oneKey),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; the audit records it (required)")
	return a.jsonFlag(cmd)
}
