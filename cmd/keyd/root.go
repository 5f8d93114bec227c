package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/words"
)

const (
	defaultSocket = "/run/keyd/keyd.sock"
	defaultConfig = "/etc/keyd/keyd.yaml"
)

// The exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2 // usage or configuration
	exitUnreachable = 3
	exitRefused     = 4
	exitProposed    = 5 // recorded, and waits for a second operator
)

// app is what every command shares.
type app struct {
	socket string
	json   bool
	in     *os.File
	out    *os.File
	err    *os.File
}

func execute(ctx context.Context, args []string) int {
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil {
		a.complain(err)
	}
	if errors.Is(err, control.ErrUnreachable) {
		a.note("See whether it runs with `systemctl status keyd`, and start it with `systemctl start keyd`.")
	}
	return exitCode(err)
}

// text formats an error for a person. It separates the many lines of a configuration's problems.
func text(err error) string {
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	var problems config.Problems
	if errors.As(err, &problems) {
		return fmt.Sprintf("the configuration has %s:\n%v", words.Count(len(problems), "mistake"), err)
	}
	return err.Error()
}

func exitCode(err error) int {
	var usage *control.UsageError
	var refused *control.RefusedError
	var proposed *control.ProposedError
	var problems config.Problems
	var otherCase *key.CaseError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage), errors.As(err, &problems), errors.As(err, &otherCase):
		return exitUsage
	case errors.Is(err, control.ErrUnreachable):
		return exitUnreachable
	case errors.As(err, &proposed):
		return exitProposed
	case errors.As(err, &refused):
		return exitRefused
	default:
		return exitFailed
	}
}

func usagef(format string, args ...any) error {
	return &control.UsageError{Text: fmt.Sprintf(format, args...)}
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "keyd",
		Short: "Customer-managed keys: made in your HSM, brought to Azure, rotated and proven",
		Long: `keyd makes keys in your own HSM, brings them to Azure Key Vault and Managed HSM (BYOK),
rotates them on a schedule, and proves that they work.

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 daemon unreachable, 4 refused,
5 waits for a second operator.`,
		Example:       "  keyd status\n  keyd rotate --now sa-cmk-key --reason \"yearly drill\"",
		Args:          noCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.Version = thisBuild().String() // for --version
	root.SetVersionTemplate("{{.Version}}\n")
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(wrongFlag)
	root.PersistentFlags().
		StringVar(&a.socket, "socket", "", "the daemon's control socket (default $KEYD_SOCKET, or "+defaultSocket+")")
	group(root, "Looking:", a.status(), a.consumers(), a.plan(), a.check(), a.prove(), a.config(), a.kek(),
		a.approvals(), a.audit(), a.attest(), a.version())
	group(root, "Acting:", a.rotate(), a.pause(), a.resume(), a.adopt(), a.acknowledge(), a.retire(), a.enable(),
		a.repoint(), a.replace(), a.approve(), a.withdraw(), a.backup(), a.store(), a.reload(), a.acceptSettings())
	group(root, "Services:", a.run(), a.hsm())
	help := a.help()
	root.SetHelpCommand(help)
	group(root, "This program:", help, a.completion())
	return root
}

func (a *app) client() *control.Client {
	return control.Dial(cmp.Or(a.socket, os.Getenv("KEYD_SOCKET"), defaultSocket))
}

// jsonFlag adds the flag --json to a command.
func (a *app) jsonFlag(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON, with exact times")
	return cmd
}

// show prints v as indented JSON with --json, and by text otherwise.
func (a *app) show(v any, text func(io.Writer, style)) error { return a.showOn(a.out, v, text) }

// showOn is show for another writer than standard output.
func (a *app) showOn(w io.Writer, v any, text func(io.Writer, style)) error {
	if a.json {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(withLists(v))
	}
	var b strings.Builder
	text(&b, a.style())
	_, err := io.WriteString(w, b.String())
	return err
}

// outcome is the JSON answer of a command that only acts.
type outcome struct {
	Done string `json:"done"`
	Key  string `json:"key,omitempty"`
	File string `json:"file,omitempty"`
}

func (a *app) say(o outcome, text string) error {
	return a.show(o, func(w io.Writer, _ style) { fmt.Fprintln(w, text) })
}
