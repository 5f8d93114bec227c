package plan

import (
	"fmt"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// placement brings one vault after the other up to date. It leaves a vault that cannot be seen for later, and
// finishes one that can before it touches the next.
func placement(in Input) (Step, bool) {
	g := in.Record.Current()
	var away []string
	for _, v := range in.Policy.Vaults {
		if g != nil && g.LeavesOut(in.Policy, v.URL) {
			continue // caught up once the generation is finished
		}
		seen := in.shown(v)
		if seen.Err != nil {
			away = append(away, fmt.Sprintf("vault %s: %v", v.Name, seen.Err))
			continue
		}
		if s, ok := in.inVault(visible{v, seen}); ok {
			if s.Kind != Wait || s.Attempt != "" {
				return s, true
			}
			if !slices.Contains(away, s.Why) {
				away = append(away, s.Why)
			}
		}
	}
	if g != nil && g.Fingerprint != "" && !g.Everywhere(in.Policy) {
		return in.wait(g.Number, "", "%s", joined(away)), true
	}
	return Step{}, false
}

// inVault is the next step in one vault that can be seen.
func (in Input) inVault(v visible) (Step, bool) {
	if s, ok := in.unresolved(v); ok {
		return s, true
	}
	if g := in.Record.Missing(in.Policy, v.URL); g != nil {
		return in.importMissing(v, g)
	}
	return in.repair(v)
}

// unresolved waits for an ambiguous import and proves an unproven one.
func (in Input) unresolved(v visible) (Step, bool) {
	at := in.Record.Unresolved(v.URL)
	switch {
	case !at.Found():
		return Step{}, false
	case at.State == key.Imported:
		return prove(at), true
	}
	settled := at.Deadline.Add(v.Kind.SettleTime())
	s := in.wait(at.Generation.Number, v.URL,
		"keyd does not know yet whether vault %s took the import; it will know at %s", v.Name, clock(settled))
	s.Attempt, s.Until = at.Attempt, in.Now.Add(pollSoon)
	if v.seen.Begun.Before(settled) { // otherwise the vault's clock is behind, and looking again at once does not help
		s.Until = earlier(settled, s.Until)
	}
	return s, true
}

func clock(t time.Time) string { return t.UTC().Format(time.TimeOnly) }

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// importMissing places a generation that a vault lacks. The first placement of a generation anywhere waits until every
// vault is ready.
func (in Input) importMissing(v visible, g *record.Generation) (Step, bool) {
	if cur := in.Record.Current(); cur != nil && g.Number == cur.Number && !g.Placed() {
		if s, ok := in.unready(g); ok {
			return s, true
		}
	}
	if limit := v.Kind.MaxVersions(); limit > 0 && len(v.seen.Versions) >= limit {
		return in.wait(g.Number, v.URL, "%s", tooMany(v.Vault, v.seen)), true
	}
	if s, ok := in.mayBeHidden(v, g); ok {
		return s, true
	}
	cause := key.CauseRotation
	if !g.Finished.IsZero() && !g.LeavesOut(in.Policy, v.URL) {
		cause = key.CauseNewVault
	}
	return in.importInto(v, g, cause, "the vault does not have the generation"), true
}

// unready says why keyd may not place a generation in any vault yet.
func (in Input) unready(g *record.Generation) (Step, bool) {
	var whys []string
	for _, v := range in.Policy.Vaults {
		if g.LeavesOut(in.Policy, v.URL) {
			continue
		}
		switch seen := in.shown(v); {
		case seen.Err != nil:
			whys = append(whys, fmt.Sprintf("vault %s: %v", v.Name, seen.Err))
		case seen.KEK.Err != nil:
			whys = append(whys, fmt.Sprintf("vault %s: %v", v.Name, seen.KEK.Err))
		}
	}
	if len(whys) == 0 {
		return Step{}, false
	}
	return in.wait(g.Number, "", "keyd touches no vault before all are ready (rotate --now --without VAULT leaves "+
		"one out): %s", joined(whys)), true
}

// importInto is the import of a generation into a vault, or the step that must come first.
func (in Input) importInto(v visible, g *record.Generation, cause key.Cause, why string) Step {
	switch {
	case in.Seen.HSM.Err != nil:
		return in.wait(g.Number, v.URL, "the HSM cannot be used: %v", in.Seen.HSM.Err)
	case v.seen.KEK.Err != nil:
		return in.wait(g.Number, v.URL, "vault %s: %v", v.Name, v.seen.KEK.Err)
	}
	return Step{Kind: Import, Generation: g.Number, Vault: v.URL, Cause: cause, Why: why}
}

// repair makes the intended generation newest again in a vault whose newest version is a known other one: an import
// that landed late, or a foreign version over which the operator lets keyd import.
func (in Input) repair(v visible) (Step, bool) {
	last := in.Record.NewestIn(v.URL)
	if !last.Found() || last.State != key.Proven || v.seen.Newest == "" || !last.Generation.Usable() {
		return Step{}, false
	}
	if last.Generation.Holds(v.URL, v.seen.Newest) {
		return Step{}, false
	}
	if _, known := in.Record.Versions(v.URL)[v.seen.Newest]; !known {
		return Step{}, false
	}
	if v.seen.AnyRecent(in.Record, v.Vault) {
		return in.wait(last.Generation.Number, v.URL, "vault %s shows %s as its newest version of %s, which may be a "+
			"stale answer", v.Name, v.seen.Newest, in.Policy.Key), true
	}
	return in.importInto(v, last.Generation, key.CauseRepair,
		"the vault's newest version "+v.seen.Newest+" is not the intended generation"), true
}

// recovering waits for a Managed HSM that may not show yet what was recovered in it. It is the last rule: all other
// work goes on meanwhile.
func recovering(in Input) (Step, bool) {
	g := in.Record.Current()
	for _, v := range in.vaults() {
		if g != nil && g.LeavesOut(in.Policy, v.URL) || in.Record.Unresolved(v.URL).Found() {
			continue
		}
		if missing := in.Record.Missing(in.Policy, v.URL); missing != nil {
			if s, ok := in.mayBeHidden(v, missing); ok {
				return s, true
			}
		}
	}
	return Step{}, false
}

// mayBeHidden reports whether a Managed HSM that shows nothing may still hold the key. Once a hold was lifted,
// somebody may have recovered the key there, and not all regions show that at once. If the state was lost, no record
// says what was there. A vault that is new in the configuration has nothing to hide.
func (in Input) mayBeHidden(v visible, g *record.Generation) (Step, bool) {
	had := slices.ContainsFunc(in.Record.Vaults, func(had key.Vault) bool { return had.URL == v.URL })
	if v.Kind != key.ManagedHSM || !had || in.Record.HoldLifted.IsZero() || v.seen.EmptySince.IsZero() {
		return Step{}, false
	}
	settled := v.seen.EmptySince.Add(v.Kind.SettleTime())
	if !v.seen.There(v.seen.Begun).Before(settled) {
		return Step{}, false
	}
	return in.wait(g.Number, v.URL, "vault %s shows no version of %s, and may not show yet what was recovered in it; "+
		"keyd trusts it from %s on",
		v.Name, in.Policy.Key, clock(settled)), true
}

func tooMany(v key.Vault, seen record.VaultSeen) string {
	return fmt.Sprintf("vault %s holds %d versions of the key and allows at most 100: give the key a new name in the "+
		"configuration and repoint its consumers", v.Name, len(seen.Versions))
}
