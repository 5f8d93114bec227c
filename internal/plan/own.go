package plan

import (
	"slices"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// ownVersions resolves keyd's own attempts from the listings: a version is keyd's by its attempt tag or its modulus,
// or certainly does not exist.
func ownVersions(in Input) (Step, bool) {
	for _, v := range in.vaults() {
		for _, x := range in.Record.Foreign(v.URL, v.seen.Versions) {
			if s, ok := in.claim(v, x); ok {
				return s, true
			}
		}
		if s, ok := in.void(v); ok {
			return s, true
		}
	}
	return Step{}, false
}

// claim finds the placement to which a version belongs that the record does not know. A tag alone says which attempt it
// was, and speaks for no other.
func (in Input) claim(v visible, x key.Version) (Step, bool) {
	g, byMaterial := in.Record.Owner(v.seen.Material.Of(x.ID).Fingerprint(), x)
	if g == nil {
		return Step{}, false
	}
	step := Step{Generation: g.Number, Vault: v.URL, Version: x.ID}
	p := g.Awaits(v.URL, x)
	if byMaterial {
		if p = g.In(v.URL); p == nil {
			// Only what was given up: it landed after all, or is there again.
			p = g.VoidIn(v.URL, x.ID, key.ID(x.Tags[key.TagAttempt]))
		}
	}
	switch {
	case p == nil:
		return Step{}, false
	case p.Version == "" || p.State == key.Void:
		step.Kind, step.Why = Land, "the listing shows the import"
	default:
		step.Kind, step.Why = Alias, "the listing shows the same material again, as version "+x.ID
	}
	step.Attempt = p.Attempt
	return step, true
}

// void gives up an attempt if a complete listing that began after its deadline and the vault's settle time does not
// show it.
func (in Input) void(v visible) (Step, bool) {
	if v.seen.Deleted {
		return Step{}, false // a deleted key's listing is empty, whatever the key holds
	}
	if v.seen.Missing(in.Record, v.Vault).Found() {
		return Step{}, false // this listing is not complete either: it may date from when the key was deleted
	}
	if slices.ContainsFunc(in.Record.Foreign(v.URL, v.seen.Versions), v.hides) {
		return Step{}, false // it may be that one: somebody may have taken its tags off
	}
	for _, at := range in.Record.Open(v.URL) {
		if v.seen.SettleTimeOver(v.Vault, *at.Placement) {
			return Step{Kind: Void, Generation: at.Generation.Number, Vault: v.URL, Attempt: at.Attempt,
				Why: "a complete listing after deadline and settle time does not show it"}, true
		}
	}
	return Step{}, false
}

// hides reports whether the vault did not show the material of a version of a kind that keyd makes.
func (v visible) hides(x key.Version) bool {
	m := v.seen.Material.Of(x.ID)
	return m.State() != key.Unsupported && !m.Known()
}

// madeByUs reports whether this instance made a version that the record does not have: by material that the record or
// the HSM has, or by its tags.
func (in Input) madeByUs(seen record.VaultSeen, x key.Version) bool {
	material := seen.Material.Of(x.ID)
	if g, _ := in.Record.Owner(material.Fingerprint(), x); g != nil {
		// The version has no placement here, or one that other material under the same tag has resolved.
		return material.Matches(g.Fingerprint) == key.MatchYes
	}
	for _, o := range in.Seen.HSM.Objects {
		if o.Material.Matches(material.Fingerprint()) == key.MatchYes {
			return true
		}
	}
	return in.Record.Instance != "" && x.Tags[key.TagInstance] == in.Record.Instance
}

// origin says who made a version that the record does not have.
type origin int

const (
	own     origin = iota // this instance
	foreign               // somebody else: neither the record nor the HSM has it
	unclear               // the HSM cannot be asked
)

// origin never calls a version foreign before both the record and the HSM's inventory were asked: after the state was
// lost or put back, the HSM alone knows what is keyd's.
func (in Input) origin(seen record.VaultSeen, x key.Version) origin {
	switch {
	case in.madeByUs(seen, x):
		return own
	case in.Seen.HSM.Err != nil && seen.Material.Of(x.ID).State() != key.Unsupported: // keyd makes no such keys
		return unclear
	}
	return foreign
}
