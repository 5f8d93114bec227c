package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/keyd-project/keyd/internal/status"
)

// group adds commands under a title of their own in the help.
func group(root *cobra.Command, title string, commands ...*cobra.Command) {
	root.AddGroup(&cobra.Group{ID: title, Title: title})
	for _, c := range commands {
		c.GroupID = title
		if c.ValidArgsFunction == nil && c.Args != nil && c.Args(c, []string{"any"}) != nil {
			c.ValidArgsFunction = cobra.NoFileCompletions
		}
	}
	root.AddCommand(commands...)
}

func (a *app) help() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND…]",
		Short:   "Show what a command does and takes",
		Long:    "help shows what a command does, its flags and examples, as `keyd COMMAND --help` does.",
		Example: "  keyd help rotate",
		RunE: func(cmd *cobra.Command, names []string) error {
			about := cmd.Root()
			for _, name := range names {
				i := slices.IndexFunc(about.Commands(), func(c *cobra.Command) bool { return c.Name() == name })
				if i < 0 {
					return noSuchCommand(about, name)
				}
				about = about.Commands()[i]
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
		ValidArgsFunction: func(cmd *cobra.Command, typed []string, _ string) ([]string, cobra.ShellCompDirective) {
			about, _, err := cmd.Root().Find(typed)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return available(about), cobra.ShellCompDirectiveNoFileComp
		},
	}
}

func (a *app) completion() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print the completion script of a shell",
		Long: `completion prints a script that completes commands, flags and the names of keys in a shell.
The packages install them. In bash it needs the package bash-completion.`,
		Example:               "  source <(keyd completion bash)\n  keyd completion zsh > ~/.zfunc/_keyd",
		Args:                  args(cobra.ExactArgs(1)),
		ValidArgs:             []string{"bash", "zsh", "fish"},
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, names []string) error {
			switch names[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(a.out, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(a.out)
			case "fish":
				return cmd.Root().GenFishCompletion(a.out, true)
			}
			return usagef("there is no completion for %q; there are bash, zsh and fish", names[0])
		},
	}
}

// complete completes names from the daemon's state if the daemon answers within a second.
func (a *app) complete(choose func(snap status.Snapshot, typed []string) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, typed []string, _ string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), time.Second)
		defer cancel()
		snap, err := a.client().Snapshot(ctx, status.Selection{Brief: true})
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return choose(snap, typed), cobra.ShellCompDirectiveNoFileComp
	}
}

// otherKeys returns the keys that were not typed yet.
func otherKeys(snap status.Snapshot, typed []string) []string {
	return slices.DeleteFunc(keyNames(snap), func(name string) bool { return slices.Contains(typed, name) })
}

// oneKey completes the key of commands that take only one.
func oneKey(snap status.Snapshot, typed []string) []string {
	if len(typed) > 0 {
		return nil
	}
	return keyNames(snap)
}

func vaultNames(snap status.Snapshot, _ []string) []string {
	names := make([]string, len(snap.Vaults))
	for i, v := range snap.Vaults {
		names[i] = v.Name
	}
	return names
}

// oneVault completes the vault of commands that take one.
func oneVault(snap status.Snapshot, typed []string) []string {
	if len(typed) > 0 {
		return nil
	}
	return vaultNames(snap, typed)
}

// oneKeyOrVault completes the argument of check.
func oneKeyOrVault(snap status.Snapshot, typed []string) []string {
	return slices.Concat(oneKey(snap, typed), oneVault(snap, typed))
}

// noCommand refuses a word that is not a subcommand of the command before it.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return noSuchCommand(cmd, args[0])
	}
	return nil
}

func noSuchCommand(parent *cobra.Command, name string) error {
	return usagef(
		"there is no command %q; %s`%s --help` lists the commands",
		name,
		didYouMean(name, available(parent)),
		parent.CommandPath(),
	)
}

// available returns the names of a command's subcommands.
func available(parent *cobra.Command) []string {
	var names []string
	for _, c := range parent.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return names
}

// wrongFlag says what is wrong with a flag, and what to use instead.
func wrongFlag(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var value *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() == "":
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
		return usagef("there is no flag --%s; %s`%s --help` lists the flags",
			unknown.GetSpecifiedName(), didYouMean(unknown.GetSpecifiedName(), known), cmd.CommandPath())
	case errors.As(err, &value) && value.GetFlag().Value.Type() == "duration":
		return usagef(
			"--%s %q is not a duration: write one such as 90s, 10m or 1h30m",
			value.GetFlag().Name,
			value.GetValue(),
		)
	}
	return usagef("%v; `%s --help` lists the flags", err, cmd.CommandPath())
}

// args makes a wrong number of arguments a usage error.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch err := check(cmd, args); {
		case err == nil:
			return nil
		case cmd.HasSubCommands():
			return noSuchCommand(cmd, args[0])
		case len(args) == 0:
			return usagef("an argument is missing; usage: %s", cmd.UseLine())
		}
		return usagef("too many arguments; usage: %s", cmd.UseLine())
	}
}
