package daemon

import (
	"context"
	"fmt"
	"net/http"
	"os/user"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/health"
	"github.com/keyd-project/keyd/internal/hsm"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/observe"
	"github.com/keyd-project/keyd/internal/proof"
	"github.com/keyd-project/keyd/internal/quota"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/vault"
	"github.com/keyd-project/keyd/internal/web"
)

// azure is how a configuration reaches Azure.
type azure struct {
	cred      *vault.Credential
	vaults    map[string]*vault.Client // by URL
	resources *consumer.Client
	logClient *consumer.LogClient
}

// makeAzure makes the credential, a client for every vault in a configuration, and those for Resource Manager and for
// logs. It sends nothing.
func (d *Daemon) makeAzure(cfg *config.Config) (a azure, err error) {
	transport, err := vault.NewTransport(cfg.Azure.CAFile)
	if err != nil {
		return a, err
	}
	client := vault.HTTPClient(transport)
	if a.cred, err = newCredential(cfg, client, d.vaultSeen); err != nil {
		return a, err
	}
	if a.vaults, err = d.makeVaults(cfg, a.cred, client); err != nil {
		return a, err
	}
	a.resources, err = consumer.NewClient(consumer.ClientConfig{
		Cloud: cfg.Azure.Cloud, Credential: a.cred, Transport: client, Budget: d.budget, Metrics: d.consumersSeen,
		Logger: d.log,
	})
	if err != nil {
		return a, err
	}
	a.logClient, err = consumer.NewLogClient(consumer.LogConfig{
		Cloud: cfg.Azure.Cloud, Credential: vault.Tagged(a.cred), Transport: client,
	})
	return a, err
}

func (d *Daemon) makeVaults(
	cfg *config.Config, cred *vault.Credential, client *http.Client,
) (map[string]*vault.Client, error) {
	var err error
	vaults := make(map[string]*vault.Client, len(cfg.Vaults))
	for _, v := range cfg.Vaults {
		vaults[v.URL], err = vault.New(vault.Config{
			Vault: v.Vault, KEKName: v.KEK.Name, CreateKEK: v.KEK.Create, KEKBits: v.KEK.Bits, Limits: d.limits,
			Attested: v.KEK.Attested, Calls: d.logs,
		}, cred, client, d.vaultSeen, d.log)
		if err != nil {
			return nil, fmt.Errorf("vault %s: %w", v.Name, err)
		}
	}
	return vaults, nil
}

// newCredential makes the credential of a configuration. It sends nothing.
func newCredential(cfg *config.Config, client *http.Client, m *vault.Metrics) (*vault.Credential, error) {
	var certificate string
	var err error
	if cfg.Azure.CertificateFile != "" {
		if certificate, err = cfg.Azure.CertificatePath(); err != nil {
			return nil, fmt.Errorf("azure.certificate_file: %w", err)
		}
	}
	return vault.NewCredential(vault.CredentialConfig{
		Kind: cfg.Azure.Credential, ClientID: cfg.Azure.ClientID, TenantID: cfg.Azure.TenantID,
		CertificateFile: certificate, Cloud: cfg.Azure.Cloud, Metrics: m,
	}, client)
}

// limit keeps keyd within the shares of a configuration, and says what that slows down.
func (d *Daemon) limit(cfg *config.Config) {
	d.limits.Set(cfg.Quotas(), cfg.Azure.SubscriptionShare)
	d.limits.Expect(cfg.Policies)
	for _, f := range cfg.Slower() {
		d.log.Warn("proofs come less often than configured: "+f.String(), "VAULT", f.Vault.Name, "remedy", f.Remedy())
	}
}

// client returns the client of the vault with this URL, nil when the
// configuration has none.
func (d *Daemon) client(url string) *vault.Client {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.vaults[url]
}

func (d *Daemon) rotateVault(url string) rotate.Vault {
	if c := d.client(url); c != nil {
		return c
	}
	return nil
}

func (d *Daemon) observeVault(url string) observe.Vault {
	if c := d.client(url); c != nil {
		return c
	}
	return nil
}

func (d *Daemon) healthVault(url string) proof.Vault {
	if c := d.client(url); c != nil {
		return c
	}
	return nil
}

// makeHSM makes the connection to the HSM side: through the socket of keyd-hsm, or to a child of this process.
func (d *Daemon) makeHSM(cfg *config.Config) {
	limits := hsm.Timeouts{Call: cfg.HSM.CallTimeout, Generate: cfg.HSM.GenerateTimeout}
	if cfg.HSM.Socket != "" {
		d.hsm = hsm.Dial(cfg.HSM.Socket, limits, d.reg)
		return
	}
	d.sup = hsm.NewSupervisor(hsm.ChildConfig{Argv: d.opts.HSMCommand, Limits: limits, Log: d.log, Register: d.reg})
	d.hsm = d.sup.Client()
}

func (d *Daemon) healthConfig(cfg *config.Config) health.Config {
	return health.Config{
		HSM: d.hsm, Vaults: d.healthVault, Keys: d.healthKeys, Record: d.store.Load, Clock: time.Now,
		Newest: cfg.Health.Newest, Older: cfg.Health.Older, Quotas: d.quotas,
		Metrics: health.NewMetrics(d.led), Logger: d.log, Parallel: max(1, cfg.HSM.Sessions/2),
		Ended: d.proven, Earlier: d.earlier,
	}
}

// earlier is a version that was proven before this start, with the material that the HSM has of it.
func (d *Daemon) earlier(s health.Subject) *key.Version {
	seen := d.observer.Last(s.Key)
	if seen == nil {
		return nil
	}
	v, listed := seen.Vaults[s.Vault].Version(s.Version)
	if !listed {
		return nil
	}
	for _, o := range seen.HSM.Objects {
		if o.ID == s.Subject.ID && o.Complete && o.Material.Matches(s.Fingerprint) == key.MatchYes {
			return proof.Earlier(s.Version, o.Material, v.Expires)
		}
	}
	return nil
}

func (d *Daemon) quotas() ([]quota.Vault, float64) {
	cfg := d.config()
	return cfg.Quotas(), cfg.Azure.SubscriptionShare
}

func (d *Daemon) webConfig() web.Config {
	return web.Config{
		Listen: d.cfg.Web.Listen, WebConfigFile: d.cfg.Web.ConfigFile, Registry: d.reg,
		Snapshot: d.Snapshot, Events: d.Subscribe, Recent: d.recent, RecentOf: d.recentOf,
		Ready: d.Ready, Stuck: d.Stuck, Logger: d.log,
	}
}

// policies returns every key's policy: those in the configuration, and one that retains each key that has a record
// and is no longer configured.
func (d *Daemon) policies(ctx context.Context, cfg *config.Config) ([]key.Policy, error) {
	policies := slices.Clip(cfg.Policies)
	configured := map[string]bool{}
	for _, p := range policies {
		configured[p.Key] = true
	}
	names, err := d.store.Names(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the records: %w", err)
	}
	for _, name := range names {
		if configured[name] {
			continue
		}
		rec, err := d.store.Load(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("read the record of %s: %w", name, err)
		}
		policies = append(
			policies,
			key.Policy{Key: name, Retained: true, Vaults: rec.Vaults, Operations: rec.Operations},
		)
	}
	return policies, nil
}

// healthKeys is every key of the loop: those of the configuration, and the retained ones.
func (d *Daemon) healthKeys(ctx context.Context) ([]health.Key, error) {
	revisions, err := d.store.Revisions(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the records: %w", err)
	}
	names := d.loop.Names()
	keys := make([]health.Key, 0, len(names))
	for _, name := range names {
		if p, ok := d.loop.Policy(name); ok {
			keys = append(keys, health.KeyOf(p, revisions[name]))
		}
	}
	return keys, nil
}

// proven notes a proof that ended.
func (d *Daemon) proven(s health.Subject, at time.Time, r proof.Result) {
	d.histories.Proven(s, at, r)
	if r.Outcome != key.Passed {
		d.touch()
	}
}

// readers is the group that may read over the control socket, "" if this host has no such group: then only root, the
// daemon's own user and the operators may.
func readers(group string) string {
	if _, err := user.LookupGroup(group); err != nil {
		if _, err := user.LookupGroupId(group); err != nil {
			return ""
		}
	}
	return group
}
