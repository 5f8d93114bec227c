// Package check tries everything that keyd needs once, for a person. Its rule: it changes nothing.
package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/audit"
	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/vault"
)

// Parts is what a check tries.
type Parts struct {
	// Key and Vault, a name and a URL, restrict the check to what concerns one key and its vaults, and one vault. If
	// both are empty, the check tries everything.
	Key, Vault string
	// Tell is told how far the check is; nil: nobody is.
	Tell func(status.Progress)

	Self       uint32 // the daemon's own uid
	ConfigPath string
	Config     *config.Config
	Start      func(*config.Config) error // why a daemon would not start with a configuration
	Store      Store
	Shared     SharedStore // nil where one host has the state
	Keys       Keys
	Observer   Observer
	Health     Health
	HSM        HSM
	Vaults     func(url string) Vault // nil for a vault that is not configured
	// Consumers are those who encrypt under the keys. own is keyd's object id in Azure, "" if it is not known.
	Consumers  func(own string) Consumers
	Credential vault.CredentialState
	// Unapproved has a line for each setting of the files that is not in force before a second operator approves it.
	Unapproved []string

	AuditBroken func() string // why the audit chain is not the one that the audit key signed; "" if nothing shows that

	// What a check needs to judge and advise as the problems of `keyd status` do.
	HSMUnit         string        // the systemd unit whose journal has the HSM side's log
	HSMDownRemedy   string        // what to do if the HSM side does not answer
	CertificateSoon time.Duration // how long before its end a client certificate is a problem
	DriftSeverity   func(plan.DriftKind) status.Severity
}

// Store is the records and the audit chain.
type Store interface {
	audit.Reader
	Load(ctx context.Context, name string) (record.Record, error)
	Verify(ctx context.Context) (chain.Report, error)
	Healthy() error // of the last write
}

// Keys are the managed keys and where the loop stands with each.
type Keys interface {
	Names() []string
	Policy(name string) (key.Policy, bool)
	Position(name string) rotate.Position
}

// Observer looks at one key everywhere.
type Observer interface {
	Survey(ctx context.Context, p key.Policy, rec record.Record) *record.Observation
}

// Health proves every version of one key.
type Health interface {
	Prove(ctx context.Context, name string) ([]status.Proof, error)
}

// HSM is the HSM side.
type HSM interface {
	Describe(ctx context.Context) (key.HSMInfo, error)
	CheckKEK(ctx context.Context, k key.KEK) (trust string, err error)
}

// Vault is one configured vault.
type Vault interface {
	May(ctx context.Context, r vault.Right) (bool, error)
	Identity(ctx context.Context) (vault.Identity, error)
	ClockSkew() (skew time.Duration, known bool)
	PurgeProtected(ctx context.Context, name string) (bool, error)
	KEK(ctx context.Context, version string) (k key.KEK, present bool, err error)
	// Deleted reports whether the key is soft-deleted.
	Deleted(ctx context.Context, name string) (bool, error)
}

// Consumers are those who encrypt under the keys.
type Consumers interface {
	Look(ctx context.Context, p key.Policy) record.Usage
	// Vault and Consumer look at a set-up.
	Vault(ctx context.Context, v key.Vault) []consumer.Finding
	Consumer(ctx context.Context, p key.Policy, seen record.ConsumerSeen) []consumer.Finding
}

// checker collects the lines of one check.
type checker struct {
	Parts
	lines []status.Check
	marks marks // of the listed versions
	away  away
	told  []string // differences about a whole vault, each with its vault
	own   string   // keyd's object id in Azure; "": not known
}

// away is what another line found out of order. Whatever needs it is skipped: one cause is one failed line.
type away struct {
	hsm    string          // why the HSM side cannot be used; "" if it can
	vaults map[string]bool // that do not answer or do not let keyd in, by URL
	signIn map[key.VaultKind]bool
	// unprotected vaults are those without purge protection.
	unprotected map[string]bool
}

func newAway() away {
	return away{vaults: map[string]bool{}, signIn: map[key.VaultKind]bool{}, unprotected: map[string]bool{}}
}

// Run tries everything once. It returns the context's error; the lines have what failed.
func Run(ctx context.Context, p Parts) ([]status.Check, error) {
	c := &checker{Parts: p, away: newAway()}
	if c.everything() {
		c.config()
		c.shared(ctx, time.Now)
		c.store(ctx)
		c.attestationRoot()
	}
	if c.everything() || p.Key != "" {
		c.hsm(ctx)
	}
	c.identity(ctx)
	vaults := slices.DeleteFunc(slices.Clone(p.Config.Vaults), func(v config.Vault) bool { return !c.tries(v.URL) })
	step := p.begin("vaults", len(vaults))
	for _, v := range vaults {
		c.vault(ctx, v)
		step.done()
	}
	names := slices.DeleteFunc(slices.Clone(p.Keys.Names()), func(name string) bool {
		return !c.everything() && name != p.Key
	})
	step = p.begin("keys", len(names))
	for _, name := range names {
		c.key(ctx, name)
		step.done()
	}
	c.consumers(ctx)
	if c.everything() || p.Key != "" {
		c.compareMarks(ctx)
		c.compareTags(ctx)
	}
	return c.lines, ctx.Err()
}

// noRemedy is the remedy of a line without its own: every line that is not ok says what
// to do.
const noRemedy = "see docs/runbooks.md, which the daemon serves at /runbooks, and the journal of keyd"

func (c *checker) add(area, subject, name string, err error, detail, remedy string) {
	if err == nil {
		c.line(status.CheckOK, area, subject, name, detail, "")
		return
	}
	reason, hint := explained(err)
	c.line(status.CheckFailed, area, subject, name, reason, cmp.Or(remedy, hint, noRemedy))
}

func (c *checker) warn(area, subject, name, detail, remedy string) {
	c.line(status.CheckWarning, area, subject, name, detail, cmp.Or(remedy, noRemedy))
}

// skip notes what cannot be checked because of what another line says.
func (c *checker) skip(area, subject, name, why string) {
	c.line(status.CheckSkipped, area, subject, name, why, "")
}

func (c *checker) line(r status.CheckResult, area, subject, name, detail, remedy string) {
	c.lines = append(c.lines, status.Check{Area: area, Subject: subject, Name: name, Result: r, Detail: detail,
		Remedy: remedy})
}

// explained splits an error into what happened and what its room advises.
func explained(err error) (reason, hint string) {
	reason = err.Error()
	if e := new(vault.Error); errors.As(err, &e) && e.Hint != "" {
		return strings.Replace(reason, "; "+e.Hint, "", 1), e.Hint
	}
	return reason, ""
}

func (c *checker) config() {
	cfg, err := config.Load(c.ConfigPath)
	if err == nil {
		err = c.Start(cfg)
	}
	c.add("config", c.ConfigPath, "the file as it is now", err, "no mistake", "fix it, then: keyd reload")
	err = config.CheckProxies(os.Getenv)
	c.add("config", "environment", "HTTPS_PROXY, HTTP_PROXY, NO_PROXY", err, "can be parsed",
		"correct it (systemctl edit keyd), then: systemctl restart keyd")
	c.approvals()
	slower := map[string]bool{}
	for _, f := range c.Config.Slower() {
		slower[f.Vault.URL] = true
		c.warn("config", f.Vault.Name, proofsFit, f.String(), f.Remedy())
	}
	for _, v := range c.Config.Vaults {
		if !slower[v.URL] {
			c.add("config", v.Name, proofsFit, nil, "as often as configured", "")
		}
	}
}

// proofsFit is the name of the line that says whether the vault's limits allow the proofs that the configuration wants.
const proofsFit = "proofs within Azure's limits"

func (c *checker) store(ctx context.Context) {
	r, err := c.Store.Verify(ctx)
	if err == nil && !r.Consistent() {
		err = fmt.Errorf("%s", r)
	}
	c.add("store", c.storeName(), "audit chain", err, r.String(),
		"keep the state as it is, and see the runbook, #keydstoreunhealthy")
	if why := c.AuditBroken(); why != "" {
		c.line(status.CheckFailed, "store", c.storeName(), "audit chain as it was signed", why,
			"keep the file, and see the runbook, #keydauditbroken")
	}
	if err := c.Store.Healthy(); err != nil {
		remedy := "free or repair the disk"
		if c.Shared != nil {
			remedy = "see that the store takes changes: keyd store status"
		}
		c.add("store", c.storeName(), "last write", err, "", remedy)
	}
}

func (c *checker) hsm(ctx context.Context) {
	info, err := c.HSM.Describe(ctx)
	if err != nil {
		c.away.hsm = "the HSM does not answer"
		c.add("hsm", c.Config.HSM.Token, "answers", err, "", c.HSMDownRemedy)
		return
	}
	c.add("hsm", info.Token, "answers", nil, fmt.Sprintf("%s %s, firmware %s, serial %s", info.Manufacturer,
		info.Model, info.Firmware, info.Serial), "")
	c.add("hsm", info.Token, "module", nil, info.Module+": "+info.Library, "")
	c.pin(info)
	if info.Degraded != "" {
		c.away.hsm = "the HSM cannot work"
		_, _, remedy := pinLine(info, c.HSMUnit)
		c.line(status.CheckFailed, "hsm", info.Token, ableToWork, info.Degraded,
			cmp.Or(remedy, "see the runbook, #keydhsmdown"))
		return
	}
	c.add("hsm", info.Token, "mechanism to wrap", nil, info.Wrap, "")
	c.add("hsm", info.Token, "mechanism to open", nil, info.Open, "")
	for _, w := range info.Warnings {
		c.warn("hsm", info.Token, "module", w, "see the limits in README.md")
	}
}
