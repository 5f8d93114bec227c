package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const long = `keyvault-emulator stands in for Azure Key Vault, Managed HSM and the endpoints that
hand out tokens, on loopback: a proxy with a certificate authority of its own. It prints
the environment that sends an SDK through it, and "ready" when it is. The crypto is real.
What it holds is in memory and gone when it ends, unless it is given a state file.

It is for trying out and for tests. It is not an HSM: never bring it a key that matters.`

const examples = `  # two vaults; give the environment it prints to the program under test
  keyvault-emulator --vault contoso-weu.vault.azure.net=premium \
      --vault contoso.managedhsm.azure.net=managedhsm

  # the first import happens, but its answer is lost
  keyvault-emulator --vault contoso-weu.vault.azure.net=premium \
      --fail op=import,count=1,drop=after

  # one identity may read, wrap and unwrap, and nobody may do anything else
  keyvault-emulator --vault contoso-weu.vault.azure.net=premium \
      --access contoso-weu.vault.azure.net=roles \
      --role contoso-weu.vault.azure.net=CLIENT-ID:crypto-service-encryption-user

  # keys that stay, and faults that come and go while it runs
  keyvault-emulator --vault contoso-weu.vault.azure.net=premium \
      --state keys.state --admin 127.0.0.1:8890
  curl -d op=unwrap,status=429 http://127.0.0.1:8890/rules
  curl -X DELETE http://127.0.0.1:8890/rules`

// group is a group of flags in the help.
type group struct {
	title string
	flags []string
}

// groups are in the order of the help.
func groups() []group {
	return []group{
		{"Vaults", []string{"vault", "purge-protection", "retention", "location", "state"}},
		{
			"Where it listens",
			[]string{"proxy", "ca-out", "attestation-root-out", "ca-key", "admin", "identity-listen", "arc-key-dir"},
		},
		{"Access control (by default everyone may do everything)",
			[]string{"access", "role", "role-delay", "policy", "firewall", "azure-role", "resource-roles", "identity",
				"certificate", "token-lifetime"}},
		{"Services that encrypt under a key", []string{"consumer", "consumer-speed"}},
		{"How the service behaves", []string{"deletion-delay", "replication-delay", "service-limits",
			"subscription", "hsm-without-date", "key-list", "attestation-firmware", "log-delay",
			"clock-skew", "strict-der"}},
		{"Faults", []string{"fail"}},
		{"Other", []string{"verbose", "help"}},
	}
}

const helpWidth = 110 // columns

// printUsage is cobra's usage with the flags by group.
func printUsage(cmd *cobra.Command) error {
	out := cmd.OutOrStderr()
	_, err := fmt.Fprintf(out, "Usage:\n  %s --vault HOST=PROFILE [flags]\n\nExamples:\n%s\n",
		cmd.CommandPath(), cmd.Example)
	if err != nil {
		return err
	}
	for _, g := range groups() {
		if err := printGroup(out, cmd.Flags(), g); err != nil {
			return err
		}
	}
	return nil
}

func printGroup(out io.Writer, all *pflag.FlagSet, g group) error {
	some := pflag.NewFlagSet(g.title, pflag.ContinueOnError)
	some.SortFlags = false
	for _, name := range g.flags {
		some.AddFlag(all.Lookup(name))
	}
	_, err := fmt.Fprintf(out, "\n%s:\n%s", g.title, some.FlagUsagesWrapped(helpWidth))
	return err
}
