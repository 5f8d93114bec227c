package rotate

import (
	"fmt"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// rollBack answers a refuted proof: the predecessor as newest again, in that
// vault only, and then the hold.
func (pl *planner) rollBack() (Step, bool) {
	for _, v := range pl.p.Vaults {
		seen := pl.o.Vaults[v.URL]
		last := lastPlacement(pl.r, v.URL)
		if seen.Err != nil || last.p == nil {
			continue
		}
		switch last.p.State {
		case key.Refuted:
			if last.g.Compromised.IsZero() {
				return pl.answerRefuted(v, seen, last)
			}
		case key.Imported:
			if last.p.Cause == key.CauseRollback {
				return pl.prove(last), true
			}
		case key.Proven:
			if bad := refutedIn(pl.r, v.URL); bad.p != nil {
				// A late duplicate of what was refuted may have become the newest.
				if s, ok := pl.repair(v, seen); ok {
					if s.Kind == Import {
						s.Cause = key.CauseRollback
					}
					return s, true
				}
				return pl.hold(key.HoldRefuted, v.URL, "generation %d of %s was refuted in vault %s (%s); generation %d is the newest there again. Version %s stays enabled. Find out why, then: keyd resume %s --reason …, which tries generation %d there once more; or keyd rotate --now --compromise %s, which gives its material up and makes a new one", bad.g.Number, pl.p.Key, v.Name, bad.p.Detail, last.g.Number, bad.p.Version, pl.p.Key, bad.g.Number, pl.p.Key)
			}
		}
	}
	return Step{}, false
}

func (pl *planner) answerRefuted(v key.Vault, seen VaultSeen, bad placed) (Step, bool) {
	if bad.p.Cause != key.CauseRollback {
		if g := predecessor(pl.r, v.URL, bad.g.Number); g != nil {
			return pl.importInto(v, seen, g, key.CauseRollback, "generation "+fmt.Sprint(bad.g.Number)+" was refuted"), true
		}
	}
	return pl.hold(key.HoldRefuted, v.URL, "generation %d of %s was refuted in vault %s (%s), and there is nothing to go back to: version %s is the newest there, and stays enabled. Find out why before anything else; see the runbook", bad.g.Number, pl.p.Key, v.Name, bad.p.Detail, seen.Newest)
}

// predecessor is the latest generation before n that was proven in the vault and
// may still be placed.
func predecessor(r *key.Record, url string, n int) *key.Generation {
	for i := len(r.Generations) - 1; i >= 0; i-- {
		g := &r.Generations[i]
		if g.Number >= n || !g.Usable() {
			continue
		}
		for _, p := range g.Placements {
			if p.Vault == url && p.Good() {
				return g
			}
		}
	}
	return nil
}

// refutedIn is the last refuted placement in a vault that nobody lifted.
func refutedIn(r *key.Record, url string) (bad placed) {
	for i := range r.Generations {
		g := &r.Generations[i]
		if !g.Compromised.IsZero() {
			continue
		}
		for j := range g.Placements {
			p := &g.Placements[j]
			if p.Vault == url && p.State == key.Refuted && !p.Lifted && (bad.p == nil || p.Seq > bad.p.Seq) {
				bad = placed{g, p}
			}
		}
	}
	return bad
}

// placements brings one vault after the other up to date. A vault that cannot be
// seen is left for later; one that can is finished before the next is touched.
func (pl *planner) placements() (Step, bool) {
	g := pl.current()
	var away []string
	for _, v := range pl.p.Vaults {
		if g != nil && pl.leftOut(g, v.URL) {
			continue // caught up once the generation is finished
		}
		seen := pl.o.Vaults[v.URL]
		if seen.Err != nil {
			away = append(away, fmt.Sprintf("vault %s: %v", v.Name, seen.Err))
			continue
		}
		if s, ok := pl.inVault(v, seen); ok {
			if s.Kind != Wait || s.Attempt != "" {
				return s, true
			}
			if !slices.Contains(away, s.Why) {
				away = append(away, s.Why)
			}
		}
	}
	if g != nil && g.Fingerprint != "" && !pl.everywhere(g) {
		return Step{Kind: Wait, Generation: g.Number, Why: joined(away), Until: pl.now.Add(pollWait)}, true
	}
	return Step{}, false
}

// everywhere reports whether the generation is proven in every vault it was not
// left out of.
func (pl *planner) everywhere(g *key.Generation) bool {
	for _, v := range pl.p.Vaults {
		if pl.leftOut(g, v.URL) {
			continue
		}
		if at := g.In(v.URL); at == nil || !at.Good() {
			return false
		}
	}
	return true
}

// inVault is the next step in one vault that can be seen.
func (pl *planner) inVault(v key.Vault, seen VaultSeen) (Step, bool) {
	if s, ok := pl.unsettled(v); ok {
		return s, true
	}
	if g := pl.missing(v.URL); g != nil {
		return pl.importMissing(v, seen, g)
	}
	return pl.repair(v, seen)
}

// unsettled waits for an ambiguous import and proves an unproven one.
func (pl *planner) unsettled(v key.Vault) (Step, bool) {
	for i := range pl.r.Generations {
		g := &pl.r.Generations[i]
		if !g.Compromised.IsZero() {
			continue // whether it works no longer matters, and must not be in the way
		}
		for j := range g.Placements {
			p := &g.Placements[j]
			if p.Vault != v.URL {
				continue
			}
			switch p.State {
			case key.Imported:
				return pl.prove(placed{g, p}), true
			case key.Intended:
				settled := p.Deadline.Add(v.Kind.SettleTime())
				return Step{Kind: Wait, Generation: g.Number, Vault: v.URL, Attempt: p.Attempt, Until: earlier(settled, pl.now.Add(pollSoon)),
					Why: fmt.Sprintf("whether vault %s took the import is not known; it is settled at %s", v.Name, settled.UTC().Format(time.TimeOnly))}, true
			}
		}
	}
	return Step{}, false
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (pl *planner) prove(at placed) Step {
	return Step{Kind: Prove, Generation: at.g.Number, Vault: at.p.Vault, Attempt: at.p.Attempt, Version: at.p.Version, Cause: at.p.Cause, Why: "imported"}
}

// missing is the oldest generation that the vault should get next: usable, not
// retired, not left out, and later than whatever the vault already has of ours,
// because an older one would become its newest.
func (pl *planner) missing(url string) *key.Generation {
	highest := 0
	for i := range pl.r.Generations {
		if g := &pl.r.Generations[i]; g.In(url) != nil {
			highest = g.Number
		}
	}
	for i := range pl.r.Generations {
		g := &pl.r.Generations[i]
		if g.Number <= highest || !g.Usable() || g.State() == key.Suspended {
			continue
		}
		if g.Finished.IsZero() && pl.leftOut(g, url) {
			continue
		}
		return g
	}
	return nil
}

// importMissing places a generation that a vault lacks. The first placement of a
// generation anywhere waits until every vault is ready.
func (pl *planner) importMissing(v key.Vault, seen VaultSeen, g *key.Generation) (Step, bool) {
	if cur := pl.current(); cur != nil && g.Number == cur.Number && !placedAnywhere(g) {
		if s, ok := pl.unready(g); ok {
			return s, true
		}
	}
	if limit := v.Kind.MaxVersions(); limit > 0 && len(seen.Versions) >= limit {
		return Step{Kind: Wait, Generation: g.Number, Vault: v.URL, Until: pl.now.Add(pollWait), Why: tooMany(v, seen)}, true
	}
	if s, ok := pl.maybeHidden(v, seen, g); ok {
		return s, true
	}
	cause := key.CauseRotation
	if !g.Finished.IsZero() && !pl.leftOut(g, v.URL) {
		cause = key.CauseNewVault
	}
	return pl.importInto(v, seen, g, cause, "the vault does not have the generation"), true
}

// maybeHidden waits before a Managed HSM that shows nothing is believed, where ever a hold
// was lifted: the key may have been recovered in it, and not all regions show that at
// once. No record tells what a lost state had there. A vault that the configuration
// just got has nothing to hide.
func (pl *planner) maybeHidden(v key.Vault, seen VaultSeen, g *key.Generation) (Step, bool) {
	had := slices.ContainsFunc(pl.r.Vaults, func(had key.Vault) bool { return had.URL == v.URL })
	if v.Kind != key.ManagedHSM || !had || pl.r.Lifted.IsZero() || seen.EmptySince.IsZero() {
		return Step{}, false
	}
	settled := seen.EmptySince.Add(v.Kind.SettleTime())
	if !seen.there(seen.Begun).Before(settled) {
		return Step{}, false
	}
	pl.hidden = Step{Kind: Wait, Generation: g.Number, Vault: v.URL, Until: pl.now.Add(pollWait),
		Why: fmt.Sprintf("vault %s shows no version of %s, and may not show yet what was recovered in it; it is believed from %s on", v.Name, pl.p.Key, settled.UTC().Format(time.TimeOnly))}
	return pl.hidden, true
}

func placedAnywhere(g *key.Generation) bool {
	for _, p := range g.Placements {
		if p.State != key.Void {
			return true
		}
	}
	return false
}

// unready says why a generation may not be placed in any vault yet, or makes the
// KEK that is missing.
func (pl *planner) unready(g *key.Generation) (Step, bool) {
	var whys []string
	for _, v := range pl.p.Vaults {
		if pl.leftOut(g, v.URL) {
			continue
		}
		switch seen := pl.o.Vaults[v.URL]; {
		case seen.Err != nil:
			whys = append(whys, fmt.Sprintf("vault %s: %v", v.Name, seen.Err))
		case seen.KEK.Absent:
			return pl.createKEK(v, seen, g), true
		case seen.KEK.Err != nil:
			whys = append(whys, fmt.Sprintf("vault %s: %v", v.Name, seen.KEK.Err))
		}
	}
	if len(whys) == 0 {
		return Step{}, false
	}
	return Step{Kind: Wait, Generation: g.Number, Until: pl.now.Add(pollWait),
		Why: "no vault is touched before all are ready (rotate --now --without VAULT leaves one out): " + joined(whys)}, true
}

// createKEK makes a vault's KEK once, and gives it the time to come to light: a
// second one would replace the first, which the HSM side may have trusted by then.
func (pl *planner) createKEK(v key.Vault, seen VaultSeen, g *key.Generation) Step {
	if settled := seen.KEK.Begun.Add(kekTime(v)); !seen.KEK.Begun.IsZero() && seen.there(seen.Begun).Before(settled) {
		return Step{Kind: Wait, Generation: g.Number, Vault: v.URL, Until: pl.now.Add(pollSoon),
			Why: fmt.Sprintf("vault %s does not show the key exchange key that keyd makes; it is settled at %s", v.Name, settled.UTC().Format(time.TimeOnly))}
	}
	return Step{Kind: CreateKEK, Generation: g.Number, Vault: v.URL, Why: "the vault has no key exchange key"}
}

// kekMade records the key exchange key that shows after its making was cut short.
func (pl *planner) kekMade() (Step, bool) {
	for _, v := range pl.p.Vaults {
		seen := pl.o.Vaults[v.URL]
		if pl.r.KEKBegun[v.URL].IsZero() || pl.r.KEKMade[v.URL] != "" || seen.Err != nil || seen.KEK.Print == "" {
			continue
		}
		return Step{Kind: CreateKEK, Vault: v.URL, Why: "it was begun, and now shows"}, true
	}
	return Step{}, false
}

// kekTime is how long after its beginning a KEK may still come to light.
func kekTime(v key.Vault) time.Duration { return importTimeout + v.Kind.SettleTime() }

// importInto is the import of a generation into a vault, or what must come
// before it.
func (pl *planner) importInto(v key.Vault, seen VaultSeen, g *key.Generation, cause key.Cause, why string) Step {
	switch {
	case pl.o.HSM.Err != nil:
		return Step{Kind: Wait, Generation: g.Number, Vault: v.URL, Until: pl.now.Add(pollWait), Why: "the HSM cannot be used: " + pl.o.HSM.Err.Error()}
	case seen.KEK.Absent:
		return pl.createKEK(v, seen, g)
	case seen.KEK.Err != nil:
		return Step{Kind: Wait, Generation: g.Number, Vault: v.URL, Until: pl.now.Add(pollWait), Why: fmt.Sprintf("vault %s: %v", v.Name, seen.KEK.Err)}
	}
	return Step{Kind: Import, Generation: g.Number, Vault: v.URL, Cause: cause, Why: why}
}

// repair makes the intended generation newest again in a vault whose newest
// version is known but is another: an import that landed late, or a foreign
// version over which the operator lets keyd import.
func (pl *planner) repair(v key.Vault, seen VaultSeen) (Step, bool) {
	last := lastPlacement(pl.r, v.URL)
	if last.p == nil || last.p.State != key.Proven || seen.Newest == "" || pl.newestIs(seen, last) || !last.g.Usable() {
		return Step{}, false
	}
	if !knownVersions(*pl.r, v.URL)[seen.Newest] {
		return Step{}, false
	}
	for _, g := range pl.r.Generations {
		for _, p := range g.Placements {
			if p.Vault == v.URL && seen.recent(v, p) {
				return Step{}, false // the answer may be stale
			}
		}
	}
	return pl.importInto(v, seen, last.g, key.CauseRepair, "the vault's newest version "+seen.Newest+" is not the intended generation"), true
}
