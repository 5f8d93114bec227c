package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/key"
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
	marks marks // of the versions that were listed
}

// Check tries once everything that keyd needs. It changes nothing.
func (d *Daemon) Check(ctx context.Context) ([]status.Check, error) {
	c := &checker{d: d}
	c.config()
	c.store(ctx)
	c.hsm(ctx)
	c.identity(ctx)
	for _, v := range d.config().Vaults {
		c.vault(ctx, v)
	}
	for _, name := range d.loop.Names() {
		c.key(ctx, name)
	}
	c.compareMarks(ctx)
	return c.lines, ctx.Err()
}

// noRemedy is for what nobody has thought of: a line that is not ok always says what
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

func (c *checker) line(r status.CheckResult, area, subject, name, detail, remedy string) {
	c.lines = append(c.lines, status.Check{Area: area, Subject: subject, Name: name, Result: r, Detail: detail, Remedy: remedy})
}

// explained parts an error into what happened and what its room says to do.
func explained(err error) (reason, hint string) {
	reason = err.Error()
	if e := new(vault.Error); errors.As(err, &e) && e.Hint != "" {
		return strings.Replace(reason, "; "+e.Hint, "", 1), e.Hint
	}
	return reason, ""
}

func (c *checker) config() {
	_, err := config.Load(c.d.opts.ConfigPath)
	c.add("config", c.d.opts.ConfigPath, "the file as it is now", err, "no mistake", "mend it, then: keyd reload")
	err = config.CheckProxies(os.Getenv)
	c.add("config", "environment", "HTTPS_PROXY, HTTP_PROXY, NO_PROXY", err, "can be parsed", "correct it (systemctl edit keyd), then: systemctl restart keyd")
}

func (c *checker) store(ctx context.Context) {
	r, err := c.d.store.Verify(ctx)
	if err == nil && !r.Consistent() {
		err = fmt.Errorf("%s", r)
	}
	c.add("store", c.d.config().StateDir, "audit chain", err, r.String(), "keep the file, and see the runbook, #keydstoreunhealthy")
	if err := c.d.store.Healthy(); err != nil {
		c.add("store", c.d.config().StateDir, "last write", err, "", "free or repair the disk")
	}
}

func (c *checker) hsm(ctx context.Context) {
	seen := c.d.lookAtHSM(ctx)
	if seen.err != nil {
		c.add("hsm", c.d.config().HSM.Token, "answers", seen.err, "", hsmRemedy(c.d.hsmUnit()))
		return
	}
	info := seen.info
	c.add("hsm", info.Token, "answers", nil, fmt.Sprintf("%s %s, firmware %s, serial %s", info.Manufacturer, info.Model, info.Firmware, info.Serial), "")
	c.add("hsm", info.Token, "module", nil, info.Module+": "+info.Library, "")
	c.pin(info)
	if info.Degraded != "" {
		runbook := "#keydhsmdown"
		if info.PINRefused {
			runbook = "#keydpinrefused"
		}
		c.line(status.CheckFailed, "hsm", info.Token, "able to work", info.Degraded, "see the runbook, "+runbook)
		return
	}
	c.add("hsm", info.Token, "mechanism to wrap", nil, info.Wrap, "")
	c.add("hsm", info.Token, "mechanism to open", nil, info.Open, "")
	for _, w := range info.Warnings {
		c.warn("hsm", info.Token, "module", w, "see the limits in README.md")
	}
}

func (c *checker) pin(info key.HSMInfo) {
	const pin = "PIN"
	switch info.PIN {
	case key.PINAccepted:
		c.add("hsm", info.Token, pin, nil, string(info.PIN), "")
	case key.PINFinalTry, key.PINCountLow:
		runbook := "#keydpintrieslow"
		if info.PIN == key.PINFinalTry {
			runbook = "#keydpinnearlylocked"
		}
		c.warn("hsm", info.Token, pin, string(info.PIN)+": somebody else tries wrong PINs; keyd tries each one once", "find out who, before the token locks; see the runbook, "+runbook)
	case key.PINLocked:
		c.line(status.CheckFailed, "hsm", info.Token, pin, string(info.PIN), "do not restart "+c.d.hsmUnit()+"; see the runbook, #keydpinnearlylocked")
	case key.PINToChange:
		c.warn("hsm", info.Token, pin, string(info.PIN)+": the token wants another PIN", "change it with the vendor's tool, then write it into hsm.pin_file")
	case key.PINUnknown:
		c.line(status.CheckFailed, "hsm", info.Token, pin, "not known to be right: the token was not asked, or did not judge it", "see the line: able to work")
	default:
		c.line(status.CheckFailed, "hsm", info.Token, pin, cmp.Or(string(info.PIN), "unknown"), "do not try PINs by hand; see the runbook, #keydpinrefused")
	}
}

// identity tells as whom keyd signs in for each kind of vault, and of a proxy before
// the endpoint that hands tokens out.
func (c *checker) identity(ctx context.Context) {
	c.certificate()
	kind := c.d.config().Azure.Credential
	var signedIn error
	tried := map[key.VaultKind]bool{}
	for _, v := range c.d.config().Vaults {
		client := c.d.client(v.URL)
		if client == nil || tried[v.Kind] {
			continue
		}
		tried[v.Kind] = true
		who, err := client.Identity(ctx)
		c.add("identity", kind, "sign in for "+service(v.Kind), err, who.String(), "")
		signedIn = errors.Join(signedIn, err)
	}
	if slices.Contains([]string{vault.ManagedIdentity, vault.DefaultCredential}, kind) {
		c.proxy(kind, signedIn)
	}
}

func service(k key.VaultKind) string {
	if k == key.ManagedHSM {
		return "Managed HSMs"
	}
	return "Key Vaults"
}

func (c *checker) proxy(kind string, signedIn error) {
	const name = "proxy before the endpoint"
	endpoint, proxy, err := vault.ProxyBeforeIdentity()
	remedy := "add " + endpoint + " to NO_PROXY in keyd's environment (systemctl edit keyd), then restart it"
	switch {
	case err != nil:
		c.add("identity", kind, name, err, "", "correct them in keyd's environment (systemctl edit keyd)")
	case proxy == "":
		c.add("identity", kind, name, nil, "none: "+endpoint+" is asked directly", "")
	case signedIn != nil:
		c.line(status.CheckFailed, "identity", kind, name, fmt.Sprintf("requests for a token to %s go through the proxy %s, and the sign-in failed", endpoint, proxy), remedy)
	default:
		c.warn("identity", kind, name, fmt.Sprintf("requests for a token to %s go through the proxy %s, which sees the tokens", endpoint, proxy), remedy)
	}
}
