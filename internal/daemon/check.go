package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/vault"
)

// maxSkew is the difference between clocks that `keyd check` fails; scheduled
// rotations wait beyond it.
const maxSkew = 5 * time.Minute

// checker collects the lines of one check.
type checker struct {
	d     *Daemon
	lines []status.Check
}

// Check tries once everything that keyd needs. It changes nothing.
func (d *Daemon) Check(ctx context.Context) ([]status.Check, error) {
	c := &checker{d: d}
	c.config()
	c.store(ctx)
	c.hsm(ctx)
	for _, v := range d.config().Vaults {
		c.vault(ctx, v)
	}
	for _, name := range d.loop.Names() {
		c.key(ctx, name)
	}
	return c.lines, ctx.Err()
}

func (c *checker) add(area, subject, name string, err error, detail, remedy string) {
	line := status.Check{Area: area, Subject: subject, Name: name, Result: status.CheckOK, Detail: detail}
	if err != nil {
		line.Result, line.Detail, line.Remedy = status.CheckFailed, err.Error(), remedy
	}
	c.lines = append(c.lines, line)
}

func (c *checker) warn(area, subject, name, detail, remedy string) {
	c.lines = append(c.lines, status.Check{Area: area, Subject: subject, Name: name, Result: status.CheckWarning, Detail: detail, Remedy: remedy})
}

func (c *checker) config() {
	_, err := config.Load(c.d.opts.ConfigPath)
	c.add("config", c.d.opts.ConfigPath, "the file as it is now", err, "no mistake", "mend it, then: keyd reload")
}

func (c *checker) store(ctx context.Context) {
	r, err := c.d.store.Verify(ctx)
	if err == nil && !r.Consistent() {
		err = fmt.Errorf("%s", r)
	}
	c.add("store", c.d.config().StateDir, "audit chain", err, r.String(), "keep the file, and see the runbook")
	if err := c.d.store.Healthy(); err != nil {
		c.add("store", c.d.config().StateDir, "last write", err, "", "free or repair the disk")
	}
}

func (c *checker) hsm(ctx context.Context) {
	seen := c.d.lookAtHSM(ctx)
	if seen.err != nil {
		c.add("hsm", c.d.config().HSM.Token, "reachable", seen.err, "", "systemctl status keyd-hsm")
		return
	}
	info := seen.info
	c.add("hsm", info.Token, "reachable", nil, fmt.Sprintf("%s %s, firmware %s, serial %s", info.Manufacturer, info.Model, info.Firmware, info.Serial), "")
	if info.Degraded != "" {
		c.add("hsm", info.Token, "able to work", fmt.Errorf("%s", info.Degraded), "", "")
		return
	}
	c.add("hsm", info.Token, "wrap mechanism", nil, info.Wrap, "")
	for _, w := range info.Warnings {
		c.warn("hsm", info.Token, "module", w, "see the limits in README.md")
	}
}

func (c *checker) vault(ctx context.Context, v config.Vault) {
	client := c.d.client(v.URL)
	if client == nil {
		return
	}
	kek, present, err := client.KEK(ctx)
	if err != nil {
		c.add("vault", v.Name, "key exchange key", err, "", "")
		return
	}
	if skew, known := client.ClockSkew(); known {
		var err error
		if skew.Abs() > maxSkew {
			err = fmt.Errorf("the local clock differs by %s from the vault's", skew.Round(time.Second))
		}
		c.add("clock", v.Name, "difference", err, skew.Round(time.Second).String(), "set the clock right (chronyc tracking)")
	}
	if !present {
		c.warn("vault", v.Name, "key exchange key", "there is none yet", "keyd makes it before the first import")
		return
	}
	print, err := key.FingerprintOf(kek.Public)
	if err != nil {
		c.add("vault", v.Name, "key exchange key", err, "", "")
		return
	}
	how, err := c.d.hsm.CheckKEK(ctx, kek)
	c.add("vault", v.Name, "key exchange key", err, fmt.Sprintf("%s, trusted: %s", print, how), "compare the fingerprint with the vault's owner, then write it into the configuration as kek.fingerprint")
}

func (c *checker) key(ctx context.Context, name string) {
	p, ok := c.d.loop.Policy(name)
	rec, err := c.d.store.Load(ctx, name)
	if !ok || err != nil {
		c.add("key", name, "record", err, "", "keyd audit --verify")
		return
	}
	if rec.Hold != nil {
		c.add("key", name, "not held", fmt.Errorf("%s: %s", rec.Hold.Code, rec.Hold.Reason), "", "keyd resume "+name+" --reason …, once the cause is gone")
	}
	for _, v := range p.Vaults {
		c.keyIn(ctx, p, rec, v)
	}
	if len(rec.Generations) > 0 {
		c.proofs(ctx, p)
	}
	if pos := c.d.loop.Position(name); pos.Step.Kind == rotate.Wait {
		c.warn("key", name, "waiting", pos.Step.Why, "")
	}
}

func (c *checker) keyIn(ctx context.Context, p key.Policy, rec key.Record, v key.Vault) {
	subject := p.Key + " in " + v.Name
	client := c.d.client(v.URL)
	if client == nil {
		c.warn("key", subject, "vault", "the vault is not in the configuration: it counts as holding every version", "")
		return
	}
	versions, err := client.Versions(ctx, p.Key)
	c.add("key", subject, "list versions", err, fmt.Sprintf("%d versions", len(versions)), "")
	if err != nil || len(versions) == 0 {
		return
	}
	protected, err := client.PurgeProtected(ctx, p.Key)
	switch {
	case vault.IsNotFound(err):
	case err != nil:
		c.add("key", subject, "purge protection", err, "", "")
	case !protected:
		c.warn("key", subject, "purge protection", "it is off: whoever may purge can destroy every version at once", "az keyvault update --enable-purge-protection true")
	}
}

// proofs proves every enabled version of a key.
func (c *checker) proofs(ctx context.Context, p key.Policy) {
	results, err := c.d.health.Prove(ctx, p.Key)
	if err != nil {
		c.add("key", p.Key, "proof", err, "", "")
		return
	}
	for _, result := range results {
		v, _ := p.Vault(result.Vault)
		subject := p.Key + " in " + v.Name
		switch result.Outcome {
		case "":
			c.warn("key", subject, "proof", result.Error, "")
		case key.Passed:
			c.add("key", subject, "proof", nil, "version "+result.Version+" wraps, unwraps, and opens in the HSM", "")
		default:
			c.add("key", subject, "proof", fmt.Errorf("version %s: %s at %s: %s", result.Version, result.Outcome, result.Leg, result.Error), "", "see the runbook before anything is disabled or deleted")
		}
	}
}
