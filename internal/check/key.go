package check

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/health"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
)

// key observes one key everywhere, reports drift, and proves every version.
func (c *checker) key(ctx context.Context, name string) {
	p, ok := c.Keys.Policy(name)
	rec, err := c.Store.Load(ctx, name)
	if !ok || err != nil {
		c.add("key", name, "record", err, "", "keyd audit --verify")
		return
	}
	if rec.Hold != nil {
		c.line(status.CheckFailed, "key", name, "not held", fmt.Sprintf("%s: %s", rec.Hold.Code, rec.Hold.Reason),
			"keyd resume "+name+" --reason …, once the cause is gone")
	}
	o := c.Observer.Survey(ctx, p, rec)
	if o.HSM.Err != nil {
		c.withoutHSM(name, o.HSM.Err)
	}
	for _, v := range p.Vaults {
		c.keyIn(p, v, o.Vaults[v.URL])
		c.collect(rec, p, v, o.Vaults[v.URL])
	}
	for _, drift := range plan.Drifts(plan.Input{Policy: p, Record: &rec, Seen: o}) {
		subject, told := c.subjectOf(name, drift)
		if told {
			continue
		}
		result := status.CheckWarning
		if c.DriftSeverity(drift.Kind) == status.Critical {
			result = status.CheckFailed
		}
		c.line(result, "key", subject, string(drift.Kind), drift.Text, drift.Remedy)
	}
	if !rec.Empty() && o.HSM.Err == nil {
		c.proofs(ctx, p)
	}
	if !p.Retire.Never() && !rec.ConsentsTo(p.Retire) {
		c.warn("key", name, "retire rule", "no operator has consented to it: keyd disables nothing",
			"keyd retire "+name+" --reason …")
	}
	if pos := c.Keys.Position(name); pos.Step.Kind == plan.Wait && !c.waitsForAway(p) {
		c.warn("key", name, "waiting", pos.Step.Why, "remove the cause that it names; keyd then goes on by itself")
	}
}

// subjectOf is what a difference is about. told: another line says it, because it is about a whole vault.
func (c *checker) subjectOf(name string, d plan.Drift) (subject string, told bool) {
	switch {
	case d.Kind.OfVault():
		at := d.Vault.Name + " " + string(d.Kind)
		told = d.Kind == plan.DriftUnprotected || slices.Contains(c.told, at)
		c.told = append(c.told, at)
		return d.Vault.Name, told
	case d.Vault.Name != "":
		return name + " in " + d.Vault.Name, false
	}
	return name, false
}

// withoutHSM notes that the pairs of a key cannot be seen, nor its versions proven.
func (c *checker) withoutHSM(name string, err error) {
	if c.away.hsm != "" {
		c.skip("key", name, "pairs in the HSM, proofs", c.away.hsm)
		return
	}
	c.away.hsm = "the HSM does not list its pairs"
	c.add("key", name, "pairs in the HSM", err, "", c.HSMDownRemedy)
}

// waitsForAway reports whether another line says what keeps the key from going on.
func (c *checker) waitsForAway(p key.Policy) bool {
	return c.away.hsm != "" || slices.ContainsFunc(p.Vaults, func(v key.Vault) bool { return c.away.vaults[v.URL] })
}

func (c *checker) keyIn(p key.Policy, v key.Vault, seen record.VaultSeen) {
	subject := p.Key + " in " + v.Name
	if c.Vaults(v.URL) == nil {
		c.warn("key", subject, "vault", "the vault is not in the configuration: it counts as holding every version",
			"put it back into vaults, or leave it as it is")
		return
	}
	if seen.Err != nil && c.away.vaults[v.URL] {
		c.skip("key", subject, "list versions, proofs", notAdmitted(v.Name))
		return
	}
	detail := fmt.Sprintf("versions: %d", len(seen.Versions))
	for _, x := range seen.Versions {
		if x.ID == seen.Newest && !x.Expires.IsZero() {
			detail += ", the newest expires " + x.Expires.Format(time.DateOnly)
		}
	}
	c.add("key", subject, "list versions", seen.Err, detail, "")
	if seen.PolicyErr != nil {
		reason, hint := explained(seen.PolicyErr)
		c.warn("key", subject, "rotation policy", "whether the vault itself rotates the key is unknown: "+reason,
			cmp.Or(hint, "see the runbook, #keydrotationpolicyunreadable"))
	}
}

// proofs proves every enabled version of a key.
func (c *checker) proofs(ctx context.Context, p key.Policy) {
	results, err := c.Health.Prove(ctx, p.Key)
	if err != nil {
		c.add("key", p.Key, "proof", err, "", "")
		return
	}
	for _, result := range results {
		v, _ := p.Vault(result.Vault)
		subject := p.Key + " in " + v.Name
		if c.away.vaults[result.Vault] && result.Outcome != "" && !result.Certain() && result.Outcome != key.Passed {
			continue // skipped above
		}
		switch result.Outcome {
		case "":
			c.warn("key", subject, "proof", result.Error,
				"put the vault back into the configuration, or leave it as it is")
		case key.Passed:
			c.add("key", subject, "proof", nil, "version "+result.Version+" works in the vault and matches the HSM", "")
		default:
			runbook := "#keydunwrapfailing"
			if health.OnlyCloses(result) {
				runbook = "#keydwrapfailing"
			}
			c.line(status.CheckFailed, "key", subject, "proof", fmt.Sprintf("version %s: %s at %s: %s", result.Version,
				result.Outcome, result.Where(), result.Error),
				"see the runbook, "+runbook+", before anything is disabled or deleted")
		}
	}
}
