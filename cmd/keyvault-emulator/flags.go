package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/emulator/arm"
	"github.com/spf13/cobra"
)

// hostFlags each set something for one vault, as HOST or HOST=VALUE.
type hostFlags struct {
	protect, retention, access, roles, policies, firewalls, subscriptions, locations []string
}

func (h *hostFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&h.protect, "purge-protection", nil, "switch purge protection on for vault `HOST`; repeatable")
	f.StringArrayVar(&h.retention, "retention", nil,
		"keep deleted keys for this long, as `HOST=DAYS`, 7 to 90; repeatable")
	f.StringArrayVar(&h.access, "access", nil,
		"how a vault authorises callers, as `HOST=MODE`: open, roles or policies; repeatable")
	f.StringArrayVar(&h.roles, "role", nil, "assign a role, as `HOST=CLIENT:ROLE[:SCOPE]`: administrator, "+
		"crypto-officer, crypto-user or crypto-service-encryption-user; at /, /keys or /keys/NAME; repeatable")
	f.StringArrayVar(&h.policies, "policy", nil,
		"set an access policy, as `HOST=CLIENT:PERMISSIONS`, such as get,wrapKey,unwrapKey; repeatable")
	f.StringArrayVar(&h.firewalls, "firewall", nil,
		"admit only these callers, as `HOST=LIST` of addresses, prefixes and trusted-services; repeatable")
	f.StringArrayVar(&h.subscriptions, "subscription", nil,
		"the subscription of a vault, as `HOST=NAME`; by default all vaults have the same; repeatable")
	f.StringArrayVar(&h.locations, "location", nil,
		"the region of a vault, as `HOST=REGION`; by default westeurope; repeatable")
}

// perVault applies the flags to each vault.
func (s settings) perVault(opts *emulator.Options) error {
	for _, flag := range []struct {
		name   string
		values []string
		set    func(*emulator.VaultConfig, string) error
	}{
		{"purge-protection", s.perHost.protect, func(c *emulator.VaultConfig, _ string) error {
			c.PurgeProtection = true
			return nil
		}},
		{"retention", s.perHost.retention, func(c *emulator.VaultConfig, v string) (err error) {
			c.RecoverableDays, err = strconv.Atoi(v)
			return err
		}},
		{"access", s.perHost.access, func(c *emulator.VaultConfig, v string) (err error) {
			c.Access, err = emulator.ParseAccessMode(v)
			return err
		}},
		{"role", s.perHost.roles, func(c *emulator.VaultConfig, v string) error {
			a, err := emulator.ParseRoleAssignment(v)
			c.Roles = append(c.Roles, a)
			return err
		}},
		{"policy", s.perHost.policies, func(c *emulator.VaultConfig, v string) error {
			p, err := emulator.ParseAccessPolicy(v)
			c.Policies = append(c.Policies, p)
			return err
		}},
		{"firewall", s.perHost.firewalls, func(c *emulator.VaultConfig, v string) (err error) {
			c.Firewall, err = emulator.ParseFirewall(v)
			return err
		}},
		{"subscription", s.perHost.subscriptions, func(c *emulator.VaultConfig, v string) error {
			c.Subscription = v
			return nil
		}},
		{"location", s.perHost.locations, func(c *emulator.VaultConfig, v string) error {
			c.Location = v
			return nil
		}},
	} {
		for _, value := range flag.values {
			host, rest, _ := strings.Cut(value, "=")
			c := vaultOf(opts, host)
			if c == nil {
				return fmt.Errorf("--%s %s: no --vault is named %s", flag.name, value, host)
			}
			if err := flag.set(c, rest); err != nil {
				return fmt.Errorf("--%s %s: %w", flag.name, value, err)
			}
		}
	}
	return nil
}

func vaultOf(opts *emulator.Options, host string) *emulator.VaultConfig {
	for i := range opts.Vaults {
		if strings.EqualFold(opts.Vaults[i].Host, host) {
			return &opts.Vaults[i]
		}
	}
	return nil
}

// serviceFlags set something for the whole service.
type serviceFlags struct {
	identities, consumers  []string
	certificates           []string
	consumerSpeed          float64
	identityListen, arcDir string
	stateFile, caKey       string
	keyList                string
	firmware               int
	limits, withoutDate    bool
	resourceRoles          bool
	azureRoles             []string
	roleDelay, logDelay    time.Duration
}

func (x *serviceFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&x.identities, "identity", nil,
		"what the emulator assumes of a caller, as `CLIENT=WHAT`: an address or trusted-service; repeatable")
	f.StringArrayVar(&x.certificates, "certificate", nil,
		"accept only this certificate from a client, as `CLIENT=FILE` in PEM; by default any; repeatable")
	f.StringArrayVar(&x.consumers, "consumer", nil,
		"create a service that uses a key, as `KIND=NAME,key=ID`: "+arm.Words(", ")+"; repeatable")
	f.Float64Var(&x.consumerSpeed, "consumer-speed", 1,
		"how many times faster than in Azure consumers look for new versions")
	f.DurationVar(&x.roleDelay, "role-delay", 0,
		"how long a role change at run time takes to have effect")
	f.DurationVar(&x.logDelay, "log-delay", 10*time.Minute,
		"how long, at most, a vault's audit log takes to reach Log Analytics")
	f.BoolVar(&x.resourceRoles, "resource-roles", false,
		"make Resource Manager, Resource Graph and Log Analytics ask for roles; by default everyone may do everything")
	f.StringArrayVar(&x.azureRoles, "azure-role", nil,
		"assign an Azure role at any scope, as `PRINCIPAL:ROLE:SCOPE`, such as ID:Reader:/subscriptions/…; "+
			"repeatable")
	f.StringVar(&x.identityListen, "identity-listen", "",
		"loopback `address` of the identity endpoints of App Service and Arc; none when empty")
	f.StringVar(&x.arcDir, "arc-key-dir", "",
		"`folder` of Arc's key files, for SDKs /var/opt/azcmagent/tokens; no Arc when empty")
	f.StringVar(&x.caKey, "ca-key", "",
		"keep the authority and its unencrypted private key in this `file` between runs; a new one at each start "+
			"when empty")
	f.StringVar(&x.stateFile, "state", "", "keep keys unencrypted in this `file` between runs; memory only when empty")
	f.BoolVar(&x.limits, "service-limits", false, "answer 429 to more calls than the published limits allow")
	f.BoolVar(&x.withoutDate, "hsm-without-date", false,
		"leave the Date header out of a Managed HSM's answers, as in recordings of 2022")
	f.StringVar(&x.keyList, "key-list", "newest",
		"which `KIND` of list of keys vaults show: newest, oldest, bare, shuffled or gappy")
	f.IntVar(&x.firmware, "attestation-firmware", 2, "sign attestations in the style of HSM firmware 2 or 3")
}

// service applies the flags to the whole service.
func (s settings) service(opts *emulator.Options) error {
	x := s.extras
	opts.RoleDelay, opts.StateFile, opts.ServiceLimits, opts.HSMWithoutDate = x.roleDelay, x.stateFile, x.limits,
		x.withoutDate
	if opts.LogDelay = x.logDelay; opts.LogDelay == 0 {
		opts.LogDelay = -1 // in Options, 0 is the default
	}
	opts.AuthorityFile, opts.ResourceRoles = x.caKey, x.resourceRoles
	opts.IdentityListen, opts.ArcKeyDir = x.identityListen, x.arcDir
	if x.arcDir != "" && x.identityListen == "" {
		return fmt.Errorf("--arc-key-dir needs --identity-listen: Arc's endpoint is there")
	}
	var err error
	if opts.KeyList, err = emulator.ParseKeyList(x.keyList); err != nil {
		return fmt.Errorf("--key-list: %w", err)
	}
	switch x.firmware {
	case 2:
		opts.AttestationFirmware = emulator.Firmware2
	case 3:
		opts.AttestationFirmware = emulator.Firmware3
	default:
		return fmt.Errorf("--attestation-firmware %d: write 2 or 3", x.firmware)
	}
	for _, text := range x.identities {
		i, err := emulator.ParseIdentity(text)
		if err != nil {
			return fmt.Errorf("--identity: %w", err)
		}
		opts.Identities = append(opts.Identities, i)
	}
	for _, text := range x.azureRoles {
		a, err := emulator.ParseAzureRole(text)
		if err != nil {
			return fmt.Errorf("--azure-role: %w", err)
		}
		opts.AzureRoles = append(opts.AzureRoles, a)
	}
	for _, text := range x.certificates {
		c, err := emulator.ParseClientCertificate(text)
		if err != nil {
			return fmt.Errorf("--certificate: %w", err)
		}
		opts.Certificates = append(opts.Certificates, c)
	}
	return x.consume(opts)
}

func (x serviceFlags) consume(opts *emulator.Options) error {
	if x.consumerSpeed <= 0 {
		return fmt.Errorf("--consumer-speed %g: write a number above 0", x.consumerSpeed)
	}
	opts.ConsumerSpeed = x.consumerSpeed
	for _, text := range x.consumers {
		w, err := arm.ParseSpec(text)
		if err != nil {
			return fmt.Errorf("--consumer: %w", err)
		}
		opts.Consumers = append(opts.Consumers, w)
	}
	return nil
}
