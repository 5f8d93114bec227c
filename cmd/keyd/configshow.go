package main

import (
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/key"
)

func (a *app) config() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show what the configuration says",
		Long: `config reads the configuration and asks no daemon. What is wrong with one, and what it would change,
` + "`keyd plan --config FILE`" + ` says.`,
		Example: "  keyd config show",
		Args:    noCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.configShow())
	return cmd
}

func (a *app) configShow() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "show [KEY]",
		Short: "Show every value of the configuration, and where it came from",
		Long: `show reads the configuration, not the daemon, and lists every value with where it came from: a line
of a file, the section defaults, or keyd itself (built in). With KEY it lists the values of that key.`,
		Example: "  keyd config show\n  keyd config show sa-cmk-key\n" +
			"  keyd config show --config /etc/keyd/keyd.yaml.new --json",
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, names []string) error {
			c, err := config.LoadToShow(path)
			if err != nil {
				return err
			}
			settings := c.Settings()
			if len(names) > 0 {
				if settings, err = settingsOf(c, names[0]); err != nil {
					return err
				}
			}
			return a.show(settings, func(w io.Writer, s style) { writeSettings(w, s, settings) })
		},
		ValidArgsFunction: a.complete(oneKey),
	}
	cmd.Flags().StringVar(&path, "config", defaultConfig, "the configuration")
	return a.jsonFlag(cmd)
}

// settingsOf returns the settings of one key, whose name may be in another case.
func settingsOf(c *config.Config, name string) ([]config.Setting, error) {
	var names []string
	for _, p := range c.Policies {
		names = append(names, p.Key)
	}
	i := slices.IndexFunc(names, func(known string) bool { return key.SameName(known, name) })
	if i < 0 {
		return nil, usagef("the configuration has no key %q; %s`keyd config show` lists what it has", name,
			didYouMean(name, names))
	}
	prefix := "keys." + names[i] + "."
	return slices.DeleteFunc(slices.Clone(c.Settings()), func(s config.Setting) bool {
		return !strings.HasPrefix(s.Field, prefix)
	}), nil
}

func writeSettings(w io.Writer, s style, settings []config.Setting) {
	t := s.table()
	t.title(s, "FIELD", "VALUE", "FROM")
	for _, set := range settings {
		value := set.Value
		if value == "" {
			value = "–"
		}
		t.add(plain(set.Field, value, set.Origin())...)
	}
	t.write(w, "")
}
