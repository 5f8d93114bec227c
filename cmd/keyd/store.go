package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/daemon"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/leader"
	"github.com/keyd-project/keyd/internal/words"
)

func (a *app) store() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Make, look at and move the store that the configuration names",
		Long: `store is about where the records and the audit chain are: a file of one host, or PostgreSQL or etcd for
several hosts. Its commands read the configuration and need no daemon.`,
		Example: "  keyd store status",
		Args:    noCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.storeInit(), a.storeStatus(), a.storeAccept(), a.storeCopy())
	return cmd
}

func (a *app) storeInit() *cobra.Command {
	var path string
	var as daemon.InitAs
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the store for several hosts that the configuration names",
		Long: `init makes the tables in PostgreSQL, or the beginning of the prefix in etcd, and notes there for ` +
			`which instance.
Tables of an older schema are brought to this one's. In a store of another instance init changes nothing.

With --as another role makes the tables and owns them, so that the daemon's role may add audit entries and not change
them. init then prints the SQL that gives the daemon's role its rights.`,
		Example: "  keyd store init --as keyd_owner --password-file /etc/keyd/owner-password",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			made, err := daemon.InitStore(cmd.Context(), path, as)
			if err != nil {
				return err
			}
			return a.show(made, func(w io.Writer, _ style) { writeStoreMade(w, made) })
		},
	}
	cmd.Flags().StringVar(&path, "config", defaultConfig, "the configuration")
	cmd.Flags().StringVar(&as.User, "as", "", "the role, or for etcd the user, that makes the store (default the "+
		"configured one)")
	cmd.Flags().StringVar(&as.PasswordFile, "password-file", "", "the file with the password of --as")
	return a.jsonFlag(cmd)
}

func writeStoreMade(w io.Writer, made daemon.StoreMade) {
	what := "was already"
	if made.New {
		what = "is now"
	}
	fmt.Fprintf(w, "%s %s the store of instance %s.\n", made.Store, what, made.Instance)
	switch {
	case made.To == 0:
	case made.From == made.To:
		fmt.Fprintf(w, "Its tables have schema %d.\n", made.To)
	case made.From == 0:
		fmt.Fprintf(w, "Its tables were made, with schema %d.\n", made.To)
	default:
		fmt.Fprintf(w, "Its tables were brought from schema %d to %d.\n", made.From, made.To)
	}
	if made.Grants != "" {
		fmt.Fprintf(
			w,
			"Role %s needs these rights. Run this in the database, as a superuser:\n\n%s",
			made.Role,
			made.Grants,
		)
	}
}

func (a *app) storeStatus() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the store: its chain, who leads, the hosts, and what to see to",
		Long: `status asks the store itself, and no daemon: where the audit chain ends, which host leads and for ` +
			`how much
longer, what each host published of itself last, and what an operator should see to. It exits 1 if keyd changes
nothing in the store.`,
		Example: "  keyd store status\n  keyd store status --json",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := daemon.ReadStore(cmd.Context(), path)
			if err != nil {
				return err
			}
			if err := a.show(s, func(w io.Writer, st style) { writeStoreStatus(w, st, s) }); err != nil {
				return err
			}
			if len(s.Faults()) > 0 {
				return errors.New("keyd changes nothing in this store")
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&path, "config", defaultConfig, "the configuration")
	return a.jsonFlag(cmd)
}

func writeStoreStatus(w io.Writer, st style, s daemon.StoreStatus) {
	t := st.table()
	line := func(what, format string, args ...any) { t.add(plain(what, fmt.Sprintf(format, args...))...) }
	line("store", "%s", s.Store)
	line("instance", "%s", s.Instance)
	switch l := s.Leader; {
	case l == nil:
		line("leader", "nobody leads")
	case s.Kind == "file":
		line("leader", "a daemon of this host, which has the file open: keyd status")
	default:
		line(
			"leader",
			"%s since %s, epoch %s; the lease holds for another %s",
			l.Host,
			words.Moment(l.Since),
			l.Epoch,
			time.Duration(l.Left)*time.Second,
		)
	}
	if s.Kind != "file" || s.Leader == nil {
		line("audit", "%s, the last with hash %s", auditEntries(s.Entries), cmp.Or(s.Head, "–"))
		line("records", "%d", s.Records)
	}
	if s.Room != "" {
		line("room", "%s", s.Room)
	}
	for _, h := range s.Hosts {
		line("host "+h.Host, "%s", clean(hostWords(h, s.Entries)))
	}
	t.write(w, "")
	for _, fault := range s.Faults() {
		fmt.Fprintf(w, "%s %s\n", st.bad("stopped:"), clean(fault))
	}
	for _, warning := range s.Warnings {
		fmt.Fprintf(w, "%s %s\n", st.warn("warning:"), clean(warning))
	}
}

func auditEntries(n uint64) string {
	if n == 1 {
		return "1 audit entry"
	}
	return fmt.Sprintf("%d audit entries", n)
}

// hostWords says what a host published of itself last.
func hostWords(h leader.Report, entries uint64) string {
	text := "can work"
	switch {
	case h.Trouble != "":
		text = "cannot work: " + h.Trouble
	case h.Leads:
		text = "leads"
	}
	if h.Head < entries {
		text += fmt.Sprintf("; when it last told of itself, it had seen entry %d", h.Head)
	}
	return text + "; keyd " + h.Version
}

func (a *app) storeAccept() *cobra.Command {
	var path, reason string
	cmd := &cobra.Command{
		Use:   "accept --reason TEXT",
		Short: "Go on with a store that lost changes",
		Long: `accept is for root, after a failover or a restored copy of the store lost changes that this host ` +
			`had seen: a
pause, an approval or a compromise that somebody called. keyd then changes nothing on any host. Bring the store back
that has them, if there is one. With this command the host goes on with the store as it is; that stays in the audit
chain for ever, with your reason and with what is missing. Run it on each host that lacks something.`,
		Example: "  keyd store accept --reason \"both disks of db1 are lost; went through the pauses with Bob\"",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := key.ValidReason(reason); err != nil {
				return usagef("--reason: %v", err)
			}
			if err := a.acceptStore(cmd.Context(), path, reason); err != nil {
				return err
			}
			return a.say(
				outcome{Done: "accepted"},
				"This host goes on with the store as it is. keyd store status shows "+
					"whether another host still stops the instance: run it there, too.",
			)
		},
	}
	cmd.Flags().StringVar(&path, "config", defaultConfig, "the configuration of the instance")
	cmd.Flags().StringVar(&reason, "reason", "", "why; it stays in the audit for ever (required)")
	return a.jsonFlag(cmd)
}

// acceptStore asks the daemon that runs with the configuration, which has what it saw in use, or does it where none
// runs.
func (a *app) acceptStore(ctx context.Context, path, reason string) error {
	ask := a.client()
	if a.socket == "" && os.Getenv("KEYD_SOCKET") == "" {
		cfg, err := config.Load(path)
		if err != nil {
			return err
		}
		ask = control.Dial(cfg.Control.Socket) // not that of another instance on this host
	}
	err := ask.AcceptStore(ctx, reason)
	if errors.Is(err, control.ErrUnreachable) {
		return daemon.AcceptStopped(ctx, path, reason)
	}
	return err
}

func (a *app) storeCopy() *cobra.Command {
	var from, to string
	cmd := &cobra.Command{
		Use:   "copy --from OLD.yaml --to NEW.yaml",
		Short: "Move the state to another store, and close the old one",
		Long: `copy moves the records and the audit chain, byte for byte, from the store that one configuration names to
that of another: from the file of one host to PostgreSQL or etcd, between those, or back. Stop keyd on every host first.
copy takes the lease of both stores, copies and verifies everything, and closes the old store, which then says where the
state is. The new one must be empty: keyd store init makes it, and keyd makes a file by itself.

A copy that was cut short is repeated with the same command. Until it is whole, keyd does not start on the new store.`,
		Example: "  systemctl stop keyd\n" +
			"  keyd store copy --from /etc/keyd/keyd.yaml --to /etc/keyd/new/keyd.yaml",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if from == "" || to == "" {
				return usagef(
					"--from and --to are required: the configuration that names the store, and the one that names " +
						"the new one",
				)
			}
			done, err := daemon.CopyStore(cmd.Context(), from, to)
			if err != nil {
				return err
			}
			return a.show(done, func(w io.Writer, _ style) {
				fmt.Fprintf(w, "%s and %s are in %s; the last entry has hash %s.\n", auditEntries(done.Entries),
					words.Count(done.Records, "record"), done.To, done.Head)
				fmt.Fprintf(
					w,
					"%s takes no changes any more. Put %s in place on every host, and start keyd: systemctl start "+
						"keyd\n",
					done.From,
					to,
				)
			})
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "the configuration that names the store with the state (required)")
	cmd.Flags().StringVar(&to, "to", "", "the configuration that names the new store (required)")
	return a.jsonFlag(cmd)
}
