package rotate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/keyd-project/keyd/internal/key"
)

// resolve settles what the listings tell of our own attempts: a version that is
// ours, by attempt tag or by modulus, or the certainty that there is none.
func (pl *planner) resolve() (Step, bool) {
	for _, v := range pl.p.Vaults {
		seen := pl.o.Vaults[v.URL]
		if seen.Err != nil {
			continue
		}
		known := knownVersions(*pl.r, v.URL)
		for _, x := range seen.Versions {
			if known[x.ID] {
				continue
			}
			if s, ok := pl.claim(v, seen, x); ok {
				return s, true
			}
		}
		if s, ok := pl.giveUp(v, seen); ok {
			return s, true
		}
	}
	return Step{}, false
}

// claim finds the placement to which an unknown version belongs.
func (pl *planner) claim(v key.Vault, seen VaultSeen, x key.Version) (Step, bool) {
	g, byMaterial := pl.owner(seen, x)
	if g == nil {
		return Step{}, false
	}
	step := Step{Generation: g.Number, Vault: v.URL, Version: x.ID}
	p := g.In(v.URL)
	if p == nil {
		// Only what was given up: it landed after all, or is there again.
		p = voidPlacement(g, v.URL, x)
	}
	switch {
	case p == nil:
		return Step{}, false
	case p.Version == "" || p.State == key.Void:
		step.Kind, step.Why = Found, "the listing shows the import"
	case byMaterial:
		step.Kind, step.Why = Alias, "the listing shows the same material again, as version "+x.ID
	default:
		return Step{}, false
	}
	step.Attempt = p.Attempt
	return step, true
}

// owner is the generation to which a version belongs: by its modulus, else by its
// attempt tag.
func (pl *planner) owner(seen VaultSeen, x key.Version) (g *key.Generation, byMaterial bool) {
	if print := seen.Material[x.ID]; print != "" {
		for i := range pl.r.Generations {
			if pl.r.Generations[i].Fingerprint == print {
				return &pl.r.Generations[i], true
			}
		}
	}
	attempt := key.ID(x.Tags[key.TagAttempt])
	if attempt == "" {
		return nil, false
	}
	for i := range pl.r.Generations {
		for _, p := range pl.r.Generations[i].Placements {
			if p.Attempt == attempt {
				return &pl.r.Generations[i], false
			}
		}
	}
	return nil, false
}

// voidPlacement is the generation's void placement in a vault that had this version, or
// has its attempt, else its last one without a version.
func voidPlacement(g *key.Generation, url string, x key.Version) (found *key.Placement) {
	for i := range g.Placements {
		p := &g.Placements[i]
		switch {
		case p.Vault != url || p.State != key.Void || p.Version != "" && p.Version != x.ID:
			continue
		case p.Version == x.ID || p.Attempt == key.ID(x.Tags[key.TagAttempt]):
			return p
		}
		found = p
	}
	return found
}

// giveUp declares an attempt void when a complete listing, begun after its
// deadline and the vault's settle time, does not show it.
func (pl *planner) giveUp(v key.Vault, seen VaultSeen) (Step, bool) {
	if seen.Deleted {
		return Step{}, false // a deleted key lists nothing, whatever it holds
	}
	if _, ok := pl.lacking(v, seen); ok {
		return Step{}, false // nor is this one complete: it may be of when the key was deleted
	}
	for i := range pl.r.Generations {
		g := &pl.r.Generations[i]
		for _, p := range g.Placements {
			if p.Vault != v.URL || p.State != key.Intended {
				continue
			}
			if settled(v, p, seen) {
				return Step{Kind: GiveUp, Generation: g.Number, Vault: v.URL, Attempt: p.Attempt,
					Why: "a complete listing after deadline and settle time does not show it"}, true
			}
		}
	}
	return Step{}, false
}

// settled reports whether a look began after the attempt's deadline and settle time,
// by the local clock and, where it is known, by the vault's: either may jump.
func settled(v key.Vault, p key.Placement, seen VaultSeen) bool {
	open := p.Deadline.Add(v.Kind.SettleTime()).Sub(p.At)
	if seen.Begun.Before(p.At.Add(open)) {
		return false
	}
	there := seen.clock(seen.Begun)
	return p.VaultAt.IsZero() || there.IsZero() || !there.Before(p.VaultAt.Add(open))
}

// distrust holds the key when what is seen contradicts the record.
func (pl *planner) distrust() (Step, bool) {
	if pl.o.HSM.Err == nil {
		if s, ok := pl.distrustHSM(); ok {
			return s, true
		}
	}
	for _, v := range pl.p.Vaults {
		seen := pl.o.Vaults[v.URL]
		if seen.Err != nil {
			continue
		}
		for _, rule := range []func(key.Vault, VaultSeen) (Step, bool){
			pl.deleted, pl.missingVersions, pl.strangers,
		} {
			if s, ok := rule(v, seen); ok {
				return s, true
			}
		}
	}
	return Step{}, false
}

// distrustHSM compares the inventory with the record: a token that was wiped, or
// exchanged, works like a healthy one.
func (pl *planner) distrustHSM() (Step, bool) {
	byID := map[key.ID]key.Object{}
	for _, o := range pl.o.HSM.Objects {
		byID[o.ID] = o
		if !pl.knowsID(o.ID) || pl.abandoned(o.ID) && !o.Label.Pending {
			return pl.hold(key.HoldRecordBehind, "", "the HSM has %s under CKA_ID %s, which the record of %s does not know: the state directory was lost or is an old copy. Look with: keyd adopt %s", o.Label, o.ID, pl.p.Key, pl.p.Key)
		}
	}
	for i := range pl.r.Generations {
		g := &pl.r.Generations[i]
		if !g.Usable() {
			continue
		}
		o, there := byID[g.ID]
		switch {
		case !there:
			return pl.hold(key.HoldObjectMissing, "", "generation %d of %s (CKA_ID %s) is not in the HSM: the token was wiped, exchanged, or the pair removed. Put it back, then: keyd resume %s; if it is gone for good: keyd adopt %s", g.Number, pl.p.Key, g.ID, pl.p.Key, pl.p.Key)
		case !o.Complete || !printIs(o, g.Fingerprint):
			return pl.hold(key.HoldObjectMissing, "", "generation %d of %s (CKA_ID %s) is in the HSM, but is not the pair that was pinned (%s): %s. Put it back, then: keyd resume %s", g.Number, pl.p.Key, g.ID, g.Fingerprint.Short(), o.Problem, pl.p.Key)
		}
	}
	return Step{}, false
}

func (pl *planner) knowsID(id key.ID) bool {
	for _, g := range pl.r.Generations {
		if g.ID == id {
			return true
		}
	}
	return pl.abandoned(id)
}

func (pl *planner) abandoned(id key.ID) bool {
	return slices.ContainsFunc(pl.r.Abandoned, func(a key.AbandonedID) bool { return a.ID == id })
}

func printIs(o key.Object, want key.Fingerprint) bool {
	if o.Public == nil {
		return false
	}
	print, err := key.FingerprintOf(o.Public)
	return err == nil && print == want
}

func (pl *planner) deleted(v key.Vault, seen VaultSeen) (Step, bool) {
	if !seen.Deleted {
		return Step{}, false
	}
	return pl.hold(key.HoldKeyDeleted, v.URL, "key %s is soft-deleted in vault %s, and every version with it: consumers lose their data at their next look. Recover it: az keyvault key recover %s --name %s, then: keyd resume %s", pl.p.Key, v.Name, azScope(v), pl.p.Key, pl.p.Key)
}

// azScope is how the az CLI is told which vault is meant.
func azScope(v key.Vault) string {
	host := strings.TrimPrefix(v.URL, "https://")
	name, _, _ := strings.Cut(host, ".")
	if v.Kind == key.ManagedHSM {
		return "--hsm-name " + name
	}
	return "--vault-name " + name
}

// missingVersions holds when a complete listing lacks what the record has there.
func (pl *planner) missingVersions(v key.Vault, seen VaultSeen) (Step, bool) {
	at, ok := pl.lacking(v, seen)
	if !ok {
		return Step{}, false
	}
	return pl.hold(key.HoldVersionsMissing, v.URL, "vault %s no longer shows version %s of %s (generation %d): the key was purged, or the vault is another one. Find out which; then: keyd adopt %s", v.Name, at.p.Version, pl.p.Key, at.g.Number, pl.p.Key)
}

// lacking is a version that the record has in the vault, for long enough to be shown,
// and the listing has not.
func (pl *planner) lacking(v key.Vault, seen VaultSeen) (at placed, ok bool) {
	for i := range pl.r.Generations {
		g := &pl.r.Generations[i]
		for j := range g.Placements {
			p := &g.Placements[j]
			if p.Vault != v.URL || p.Version == "" || p.State == key.Void {
				continue
			}
			if seen.recent(v, *p) {
				continue
			}
			if _, listed := seen.version(p.Version); !listed {
				return placed{g, p}, true
			}
		}
	}
	return placed{}, false
}

// strangers holds for versions that nobody of ours made: a name that was taken
// before the first import, a newest version that is foreign, or one that carries
// our tags and is in no record.
func (pl *planner) strangers(v key.Vault, seen VaultSeen) (Step, bool) {
	foreign := pl.foreign(v.URL, seen)
	for _, x := range foreign {
		if pl.madeByUs(seen, x) {
			return pl.hold(key.HoldRecordBehind, v.URL, "vault %s holds version %s of %s, made by this instance and unknown to the record: the state directory was lost or is an old copy. Look with: keyd adopt %s", v.Name, x.ID, pl.p.Key, pl.p.Key)
		}
	}
	if len(foreign) == 0 {
		return Step{}, false
	}
	if lastPlacement(pl.r, v.URL).p == nil {
		return pl.hold(key.HoldNameTaken, v.URL, "the name %s in vault %s already holds %d versions that keyd did not make, such as %s: keyd never imports over them unasked. Look with: keyd adopt %s", pl.p.Key, v.Name, len(foreign), foreign[0].ID, pl.p.Key)
	}
	if slices.ContainsFunc(foreign, func(x key.Version) bool { return x.ID == seen.Newest }) {
		return pl.hold(key.HoldForeign, v.URL, "the newest version of %s in vault %s, %s, is not keyd's: versionless consumers follow it. Find out who made it; to import over it: keyd adopt %s", pl.p.Key, v.Name, seen.Newest, pl.p.Key)
	}
	return Step{}, false
}

// foreign is every version in the vault that the record does not account for and
// that no generation owns.
func (pl *planner) foreign(url string, seen VaultSeen) (out []key.Version) {
	known := knownVersions(*pl.r, url)
	for _, x := range seen.Versions {
		if !known[x.ID] {
			out = append(out, x)
		}
	}
	return out
}

// madeByUs reports whether an unknown version is one of this instance: by
// material that the record or the HSM has, or by its tags.
func (pl *planner) madeByUs(seen VaultSeen, x key.Version) bool {
	if g, _ := pl.owner(seen, x); g != nil {
		// An owner that has no placement here, or one that is settled by
		// another material under the same tag.
		return g.Fingerprint == seen.Material[x.ID]
	}
	for _, o := range pl.o.HSM.Objects {
		if print := seen.Material[x.ID]; print != "" && printIs(o, print) {
			return true
		}
	}
	return pl.r.Instance != "" && x.Tags[key.TagInstance] == pl.r.Instance
}

// hold is the step that stops the key.
func (pl *planner) hold(code key.HoldCode, url, format string, args ...any) (Step, bool) {
	reason := fmt.Sprintf(format, args...)
	return Step{Kind: Hold, Vault: url, Why: reason,
		Hold: &key.Hold{Code: code, Vault: url, Reason: reason, Since: pl.now, By: "keyd"}}, true
}
