package trouble

import (
	"cmp"
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/health"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

// proof finds what is wrong with a version by its proofs.
func (f *finder) proof(k status.Key, p status.Proof) {
	switch {
	case p.Outcome == "" && p.Error != "":
		return // its vault has left the configuration
	case !p.Failing:
		f.proofLate(k, p)
	case p.Certain():
		f.proofFailed(k, p)
	case p.Reason == key.HSMFailed && f.causes.hsm == nil && !p.At.After(f.hsmUp):
		f.proofLate(k, p) // the HSM works again, and the next proof follows soon
	default:
		f.proofUnanswered(k, p)
	}
}

// proofFailed finds a version that certainly does not do what consumers need.
func (f *finder) proofFailed(k status.Key, p status.Proof) {
	if found := f.ofProof(k.Name, p); found != nil {
		found.unproven(k.Name)
		found.Severity = critical
		return
	}
	here := about{key: k.Name, vault: f.vaults[p.Vault]}
	version := versionOf{k.Name, here.vault, p}
	if health.OnlyCloses(p) {
		f.add(WrapFailing, here, fmt.Sprintf("%s does not wrap or sign: %s at %s: %s; "+
			"what is encrypted under it can be read", version, p.Outcome, p.Where(), p.Error))
		return
	}
	f.add(UnwrapFailing, here, fmt.Sprintf("%s failed its proof: %s at %s: %s", version, p.Outcome, p.Where(), p.Error))
}

// unknown is a reason for which versions in a vault could not be proven. The HSM's reasons belong to no vault.
type unknown struct {
	url    string
	reason key.Reason
}

// group is versions that could not be proven, or were not for too long, for one reason.
type group struct {
	first   status.Proof
	of      string // the first one's key
	late    bool
	problem *problem
}

// proofUnanswered finds versions of which keyd does not know whether they work. One problem tells of all for which the
// reason is the same.
func (f *finder) proofUnanswered(k status.Key, p status.Proof) {
	if found := f.ofProof(k.Name, p); found != nil {
		found.unproven(k.Name)
		return
	}
	at := unknown{p.Vault, p.Reason}
	if p.Reason == key.HSMFailed {
		at.url = ""
	}
	f.grouped(at, false, k, p)
}

// proofLate finds versions that were not proven for too long.
func (f *finder) proofLate(k status.Key, p status.Proof) {
	if p.PassedAt.IsZero() {
		return // never proven: the rotation says why
	}
	since := p.PassedAt
	// What was proven before a start, or before the HSM came back, is not known to be late.
	for _, t := range []time.Time{f.started, f.hsmUp} {
		if t.After(since) {
			since = t
		}
	}
	if !f.late(ProofStale, since.Add(2*f.every(p))) {
		return
	}
	found := cmp.Or(f.causes.hsm, f.causes.vaults[p.Vault])
	if found != nil {
		found.unproven(k.Name)
		return
	}
	f.grouped(unknown{url: p.Vault}, true, k, p)
}

// every is the longest time between two proofs of a version.
func (f *finder) every(p status.Proof) time.Duration {
	if p.Newest {
		return f.Newest
	}
	return f.Older
}

// grouped counts a version in the problem of its reason, which the first one makes.
func (f *finder) grouped(at unknown, late bool, k status.Key, p status.Proof) {
	groups := &f.unanswered
	if late {
		groups = &f.stale
	}
	g := (*groups)[at]
	if g == nil {
		if *groups == nil {
			*groups = map[unknown]*group{}
		}
		cause := VersionsUnproven
		if late {
			cause = ProofStale
		}
		g = &group{first: p, of: k.Name, late: late,
			problem: f.add(cause, about{key: k.Name, vault: f.vaults[at.url]}, "")}
		(*groups)[at] = g
	}
	if p.PassedAt.Before(g.first.PassedAt) {
		g.first, g.of = p, k.Name
	}
	g.problem.unproven(k.Name)
}

// describe says what each group of versions has in common, once all are counted.
func (f *finder) describe() {
	for _, groups := range []map[unknown]*group{f.unanswered, f.stale} {
		for at, g := range groups {
			f.describeGroup(at, g)
		}
	}
}

func (f *finder) describeGroup(at unknown, g *group) {
	p, vault := g.problem, f.vaults[at.url]
	first := versionOf{g.of, f.vaults[g.first.Vault], g.first}
	n := p.versions
	p.versions = 0 // its text says it
	if len(p.keys) > 1 {
		p.Key = ""
	}
	where := "in vault " + vault
	if at.url == "" {
		where = "because of the HSM"
	}
	switch {
	case g.late && n == 1:
		p.Text = fmt.Sprintf("%s was last proven at %s, and should be every %s", first, words.Moment(g.first.PassedAt),
			f.every(g.first))
	case g.late:
		p.Text = fmt.Sprintf("%s of %s %s were not proven for too long, one not since %s", words.Count(n, "version"),
			words.Count(len(p.keys), "key"), where, words.Moment(g.first.PassedAt))
	case n == 1:
		p.Text = fmt.Sprintf("%s cannot be proven: %s: %s", first, g.first.Where(), g.first.Error)
	default:
		p.Text = fmt.Sprintf("%s of %s cannot be proven %s: %s: %s", words.Count(n, "version"),
			words.Count(len(p.keys), "key"), where, g.first.Where(), g.first.Error)
	}
}

// versionOf names a version for a person.
type versionOf struct {
	key, vault string
	proof      status.Proof
}

func (v versionOf) String() string {
	return fmt.Sprintf("%s: version %s (generation %d) in vault %s",
		v.key, v.proof.Version, v.proof.Generation, v.vault)
}
