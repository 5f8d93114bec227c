package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/spf13/cobra"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/daemon"
	"github.com/keyd-project/keyd/internal/schedule"
)

func (a *app) run() *cobra.Command {
	var path string
	var once bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the daemon",
		Long: `run is the daemon: it keeps every key as the configuration asks. SIGTERM or SIGINT ends it
cleanly. SIGHUP makes it read its configuration again, as ` + "`keyd reload`" + ` does.
With --once it ends as soon as nothing is due.`,
		Example: "  keyd run --config /etc/keyd/keyd.yaml\n  keyd run --once",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkHostZone(); err != nil {
				return err
			}
			log, err := a.logger(path)
			if err != nil {
				return err
			}
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program, to start the HSM side: %w", err)
			}
			return daemon.Run(cmd.Context(), daemon.Options{
				ConfigPath: path, Version: thisBuild().Version, Once: once, Logger: log,
				HSMCommand: []string{self, "hsm", "--config", path},
				Reload:     onHangup(cmd.Context()),
			})
		},
	}
	cmd.Flags().StringVar(&path, "config", defaultConfig, "the configuration")
	cmd.Flags().BoolVar(&once, "once", false, "end as soon as nothing is due")
	return cmd
}

// checkHostZone is for commands that compute with schedules. Emergency commands must not fail because of a time zone.
func checkHostZone() error {
	if err := schedule.CheckHostZone(); err != nil {
		return usagef("%v", err)
	}
	return nil
}

func (a *app) hsm() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "hsm",
		Short: "Run the HSM side",
		Long: `hsm is the side of keyd that holds the PIN and loads the HSM's library, and never talks to the
network. It serves the socket that the configuration names under hsm.socket, as keyd-hsm.service does;
without one, keyd run starts it as its child.`,
		Example: "  keyd hsm --config /etc/keyd/keyd.yaml",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := a.logger(path)
			if err != nil {
				return err
			}
			return daemon.RunHSM(cmd.Context(), daemon.HSMOptions{ConfigPath: path, Logger: log})
		},
	}
	cmd.Flags().StringVar(&path, "config", defaultConfig, "the configuration")
	cmd.AddCommand(a.acceptHead())
	return cmd
}

// logger returns the logger that the configuration at path asks for.
func (a *app) logger(path string) (*slog.Logger, error) {
	c, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	if native, err := journal.StderrIsJournalStream(); err == nil && native && c.Log.Format == "auto" {
		return slog.New(newJournalHandler(c.Log.Level)), nil
	}
	return newLogger(a.err, c.Log, isTerminal(a.err)), nil
}

// newLogger writes text where a person reads, and JSON elsewhere, unless the configuration chooses.
func newLogger(w io.Writer, c config.Log, person bool) *slog.Logger {
	opts := &slog.HandlerOptions{Level: c.Level}
	if c.Format == "text" || c.Format == "auto" && person {
		return slog.New(slog.NewTextHandler(w, opts))
	}
	return slog.New(slog.NewJSONHandler(w, opts))
}

// onHangup sends a value for each SIGHUP until ctx ends.
func onHangup(ctx context.Context) <-chan struct{} {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	reload := make(chan struct{}, 1)
	go func() {
		defer signal.Stop(hangups)
		for {
			select {
			case <-hangups:
			case <-ctx.Done():
				return
			}
			select {
			case reload <- struct{}{}:
			default: // one is pending already
			}
		}
	}()
	return reload
}
