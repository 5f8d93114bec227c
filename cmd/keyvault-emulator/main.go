// Command keyvault-emulator emulates Azure Key Vault, Managed HSM and the identity
// endpoints on loopback. It is a development tool: without a state file, it keeps
// everything in memory.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		os.Exit(1)
	}
}

// settings are the values of the flags.
type settings struct {
	proxy, admin, caOut   string
	rootOut               string
	vaults, fail          []string
	perHost               hostFlags
	extras                serviceFlags
	strictDER, verbose    bool
	deletion, replication time.Duration
	skew, tokenLifetime   time.Duration
}

func newCommand() *cobra.Command { return commandFor(&settings{}) }

// commandFor returns the command that parses its flags into s.
func commandFor(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keyvault-emulator",
		Short: "Stand in for Azure Key Vault and Managed HSM on loopback",
		Long:  long, Example: examples,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), *s, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.proxy, "proxy", "127.0.0.1:8889", "loopback `address` of the proxy; port 0 chooses one")
	f.StringVar(&s.admin, "admin", "", "loopback `address` of the admin endpoint; none when empty")
	f.StringVar(&s.caOut, "ca-out", "keyvault-emulator-ca.pem", "write the authority's certificate to this `file`")
	f.StringVar(&s.rootOut, "attestation-root-out", "",
		"write the root of its Managed HSMs' attestations to this `file`, for keyd's hsm.test_attestation_root")
	f.StringArrayVar(&s.vaults, "vault", nil,
		"stand in for a vault, as `HOST=PROFILE`: premium, standard or managedhsm; repeatable")
	f.StringArrayVar(&s.fail, "fail", nil,
		"inject faults by this `rule`, such as op=import,count=1,drop=after; docs/emulator.md has all names; "+
			"repeatable")
	f.BoolVar(&s.strictDER, "strict-der", false, "refuse PKCS#8 followed by zero padding, as SoftHSM 2.6.1 makes it")
	f.DurationVar(&s.deletion, "deletion-delay", 2*time.Second, "how long a vault takes to delete a key")
	f.DurationVar(&s.replication, "replication-delay", 0, "how long a Managed HSM's reads lag behind its writes")
	f.DurationVar(&s.skew, "clock-skew", 0, "how far the service's clock is ahead of this machine's; negative: behind")
	f.DurationVar(&s.tokenLifetime, "token-lifetime", 24*time.Hour, "how long an access token is valid")
	f.BoolVar(&s.verbose, "verbose", false, "log every request to standard error")
	s.perHost.register(cmd)
	s.extras.register(cmd)
	cmd.SetUsageFunc(printUsage)
	return cmd
}

func run(ctx context.Context, s settings, out, logOut io.Writer) error {
	opts, err := s.options(logOut)
	if err != nil {
		return err
	}
	rules, err := parseRules(s.fail)
	if err != nil {
		return err
	}
	e, err := emulator.Start(opts)
	if err != nil {
		return err
	}
	for _, r := range rules {
		e.Fail(r)
	}
	err = errors.Join(os.WriteFile(s.caOut, e.CAPEM(), 0o644), writeRoot(s.rootOut, e))
	if err == nil {
		announce(out, e, s.caOut, opts.Vaults)
		_, _ = sd.SdNotify(false, sd.SdNotifyReady) // without systemd it does nothing
		<-ctx.Done()
	}
	if closed := e.Close(); err == nil {
		err = closed
	}
	return err
}

// writeRoot writes the root of the attestations to a file, "" for none.
func writeRoot(file string, e *emulator.Emulator) error {
	if file == "" {
		return nil
	}
	root, _, err := e.AttestationRoots()
	if err != nil {
		return err
	}
	return os.WriteFile(file, root, 0o644)
}

func (s settings) options(logOut io.Writer) (emulator.Options, error) {
	opts := emulator.Options{
		ProxyListen: s.proxy, AdminListen: s.admin, StrictDER: s.strictDER,
		DeletionDelay: s.deletion, ReplicationDelay: s.replication, TokenLifetime: s.tokenLifetime,
		Now: func() time.Time { return time.Now().Add(s.skew) },
	}
	if s.verbose {
		opts.Logger = slog.New(slog.NewTextHandler(logOut, nil))
	}
	for _, v := range s.vaults {
		host, name, _ := strings.Cut(v, "=")
		profile, err := emulator.ParseProfile(name)
		if err != nil {
			return opts, fmt.Errorf("--vault %s: %w", v, err)
		}
		opts.Vaults = append(opts.Vaults, emulator.VaultConfig{Host: host, Profile: profile})
	}
	if len(opts.Vaults) == 0 {
		return opts, fmt.Errorf("no vault: add --vault HOST=premium, such as contoso-weu.vault.azure.net=premium")
	}
	if err := s.perVault(&opts); err != nil {
		return opts, err
	}
	return opts, s.service(&opts)
}

func parseRules(texts []string) ([]emulator.Rule, error) {
	var rules []emulator.Rule
	for _, text := range texts {
		r, err := emulator.ParseRule(text, time.Now())
		if err != nil {
			return nil, fmt.Errorf("--fail: %w", err)
		}
		rules = append(rules, r)
	}
	return rules, nil
}

func announcePlatform(out io.Writer, title string, environ []string) {
	if len(environ) == 0 {
		return
	}
	fmt.Fprintln(out, title)
	for _, setting := range environ {
		fmt.Fprintln(out, "  export", setting)
	}
}

// announce prints how to point a client here. The first word of the last line is
// "ready", for scripts that wait.
func announce(out io.Writer, e *emulator.Emulator, caFile string, vaults []emulator.VaultConfig) {
	fmt.Fprintln(out, "Point an Azure SDK here with this environment:")
	for _, setting := range e.Environ(caFile) {
		fmt.Fprintln(out, "  export", setting)
	}
	fmt.Fprintln(out, "Vaults, at their real names; any managed identity gets a token:")
	for _, v := range vaults {
		fmt.Fprintf(out, "  https://%s (%s)\n", v.Host, v.Profile)
	}
	announcePlatform(out, "As a workload in App Service, with this besides:", e.AppServiceEnviron())
	announcePlatform(out, "Or as one on an Azure Arc machine:", e.ArcEnviron())
	if e.AdminURL() != "" {
		fmt.Fprintln(out, "Admin endpoint:", e.AdminURL())
	}
	fmt.Fprintln(out, "ready")
}
