package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keyd-project/keyd/internal/control"
)

func (a *app) pause() *cobra.Command {
	return a.holding(&cobra.Command{
		Use:   "pause KEY --reason TEXT",
		Short: "Put a key on hold",
		Long: `pause puts a key on hold: keyd makes, imports and disables nothing for it, but still proves
it. The hold is in the key's record and stays over restarts, until resume lifts it.`,
		Example: `  keyd pause sa-cmk-key --reason "storage migration until Friday"`,
	}, (*control.Client).Pause, "paused", "%s is paused. Lift the hold with `keyd resume %[1]s --reason TEXT`.")
}

func (a *app) resume() *cobra.Command {
	return a.holding(&cobra.Command{
		Use:   "resume KEY --reason TEXT",
		Short: "Lift a key's hold",
		Long: `resume lifts a key's hold, whoever put it there. Read first why the key is on hold:
` + "`keyd status KEY`" + ` shows it, and what to do before resuming.`,
		Example: `  keyd resume sa-cmk-key --reason "the foreign version was disabled"`,
	}, (*control.Client).Resume, "resumed", "%s goes on.")
}

type holdCall func(c *control.Client, ctx context.Context, keyName, reason string) error

func (a *app) holding(cmd *cobra.Command, call holdCall, done, text string) *cobra.Command {
	var reason string
	cmd.Flags().StringVar(&reason, "reason", "", "why; the audit records it (required)")
	cmd.Args = args(cobra.ExactArgs(1))
	cmd.ValidArgsFunction = a.complete(oneKey)
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		if reason == "" {
			return usagef("--reason is required: the audit records it")
		}
		name, err := a.mustKnow(cmd.Context(), names[0])
		if err != nil {
			return err
		}
		if err := call(a.client(), cmd.Context(), name, reason); err != nil {
			return err
		}
		return a.say(outcome{Done: done, Key: name}, fmt.Sprintf(text, name))
	}
	return a.jsonFlag(cmd)
}
