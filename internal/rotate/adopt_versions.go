package rotate

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// adoptVersions makes placements of the versions that hold a generation's
// material, in the order of their creation, and notes all others as foreign. Where the
// record has later generations already, what is found of an older one stays behind them.
func (a *adopter) adoptVersions(v key.Vault, seen VaultSeen) {
	bare := a.rec
	bare.Known = nil
	known := knownVersions(bare, v.URL)
	intended, before := 0, map[key.ID]bool{} // as it was before
	if last := lastPlacement(&a.rec, v.URL); last.p != nil {
		intended = last.g.Number
	}
	for _, g := range a.rec.Generations {
		for _, p := range g.Placements {
			before[p.Attempt] = true
		}
	}
	versions := slices.Clone(seen.Versions)
	last := map[string]int{seen.Newest: 1} // of those made within one second
	slices.SortFunc(versions, func(x, y key.Version) int {
		return cmp.Or(x.Created.Compare(y.Created), cmp.Compare(last[x.ID], last[y.ID]), cmp.Compare(x.ID, y.ID))
	})
	for _, x := range versions {
		if known[x.ID] {
			continue
		}
		print := seen.Material[x.ID]
		g := a.generationOf(print)
		if g == nil {
			if !slices.Contains(a.rec.Known[v.URL], x.ID) {
				a.adoptForeign(v, x, print)
			}
			continue
		}
		a.disown(v, x)
		a.showVersion(g, v, x)
		repeats := g.Number < intended || lastPlacement(&a.rec, v.URL).g == g
		if a.again(g, v, x, seen, before, repeats) {
			continue
		}
		attempt, err := key.ParseID(x.Tags[key.TagAttempt])
		if err != nil || findPlacement(&a.rec, attempt).p != nil {
			attempt = key.ID(x.ID) // a version id has the form of an attempt id
		}
		if g.Reserved.After(x.Created) {
			g.Reserved = x.Created
		}
		placement := key.Placement{
			Seq: nextSeq(a.rec), Attempt: attempt, Vault: v.URL, VaultName: v.Name, Cause: key.CauseAdopted,
			State: key.Imported, At: a.now, ImportedAt: a.now, Version: x.ID, Created: x.Created, Expires: x.Expires,
		}
		if g.Number < intended {
			placement.Seq = 0
		}
		if ops := seen.Operations[x.ID]; provable(ops) {
			placement.Operations = ops // the configuration may have changed since it was imported
		}
		a.unprovable(&placement, v, x, seen)
		g.Placements = append(g.Placements, placement)
	}
}

// again reports whether a version belongs to a placement that the record had before: as
// the one whose import was open, as one that was given up as gone, or as a duplicate. What
// was put back over a later generation is none.
func (a *adopter) again(g *key.Generation, v key.Vault, x key.Version, seen VaultSeen, before map[key.ID]bool, repeats bool) bool {
	p := g.In(v.URL)
	if p == nil {
		if p = voidPlacement(g, v.URL, x); p == nil || p.Version != x.ID {
			return false
		}
	}
	switch {
	case p.State == key.Intended || p.State == key.Void:
		p.State, p.Version, p.Created, p.ImportedAt, p.Detail = key.Imported, x.ID, x.Created, a.now, ""
		a.unprovable(p, v, x, seen)
	case before[p.Attempt] && repeats:
		p.Aliases = append(p.Aliases, x.ID)
		if !g.Deactivated.IsZero() {
			g.Deactivated = a.now // it may have been newest until now
		}
	default:
		return false
	}
	return true
}

// unprovable has a disabled version count as retired: no proof of it can pass, and
// rotation must not wait for one.
func (a *adopter) unprovable(p *key.Placement, v key.Vault, x key.Version, seen VaultSeen) {
	if x.Enabled || x.ID == seen.Newest {
		return
	}
	p.State, p.DisabledAt = key.Disabled, a.now
	a.unknown = append(a.unknown, fmt.Sprintf("version %s in vault %s is disabled: it counts as retired, and is not proven", x.ID, v.Name))
}

// disown takes a version from those that were accepted as foreign: its pair is there.
func (a *adopter) disown(v key.Vault, x key.Version) {
	if accepted := a.rec.Known[v.URL]; slices.Contains(accepted, x.ID) {
		a.rec.Known[v.URL] = slices.DeleteFunc(accepted, func(id string) bool { return id == x.ID })
	}
}

func provable(ops []key.Operation) bool {
	_, ok := key.ProofPair(ops)
	return ok
}

func (a *adopter) showVersion(g *key.Generation, v key.Vault, x key.Version) {
	if a.rebuilt[g.Number] == nil {
		a.rebuilt[g.Number] = &status.AdoptedGeneration{Number: g.Number, ID: g.ID, Fingerprint: g.Fingerprint, Versions: map[string][]string{}}
	}
	found := a.rebuilt[g.Number]
	found.Versions[v.Name] = append(found.Versions[v.Name], x.ID)
}

func (a *adopter) adoptForeign(v key.Vault, x key.Version, print key.Fingerprint) {
	if a.rec.Known == nil {
		a.rec.Known = map[string][]string{}
	}
	a.rec.Known[v.URL] = append(a.rec.Known[v.URL], x.ID)
	a.foreign[v.Name] = append(a.foreign[v.Name], x.ID)
	switch {
	case print == "":
		a.unknown = append(a.unknown, fmt.Sprintf("the vault %s does not show the material of version %s", v.Name, x.ID))
	case x.Tags[key.TagInstance] == a.rec.Instance:
		a.unknown = append(a.unknown, fmt.Sprintf("version %s in vault %s carries this instance's tags, and its pair is not in the HSM", x.ID, v.Name))
	}
}

// lostVersions acknowledges that recorded versions are gone from the vault.
func (a *adopter) lostVersions(v key.Vault, seen VaultSeen) {
	if seen.Deleted {
		a.unknown = append(a.unknown, fmt.Sprintf("the key is soft-deleted in vault %s: recover it first, its versions are not given up", v.Name))
		a.open++
		return
	}
	for i := range a.rec.Generations {
		for j := range a.rec.Generations[i].Placements {
			p := &a.rec.Generations[i].Placements[j]
			if p.Vault != v.URL || p.Version == "" || p.State == key.Void {
				continue
			}
			if _, listed := seen.version(p.Version); listed {
				continue
			}
			if seen.recent(v, *p) {
				a.unknown = append(a.unknown, fmt.Sprintf("vault %s does not show version %s (generation %d), which was imported "+
					"less than %s before: its answer may be late, or the vault is another one",
					v.Name, p.Version, a.rec.Generations[i].Number, v.Kind.SettleTime()))
				a.open++
				continue
			}
			p.State, p.Detail, p.DisableBegun = key.Void, "no longer in the vault; acknowledged by adopt", time.Time{}
			a.gone++
			a.unknown = append(a.unknown, fmt.Sprintf("version %s (generation %d) is no longer in vault %s: what was encrypted under it there can only be read after it is imported again", p.Version, a.rec.Generations[i].Number, v.Name))
		}
	}
}
