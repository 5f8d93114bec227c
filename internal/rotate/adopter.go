package rotate

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
)

// adopter works out one adoption on a copy of the record.
type adopter struct {
	now     time.Time
	p       key.Policy
	rec     record.Record
	seen    *record.Observation
	rebuilt map[int]*status.AdoptedGeneration
	foreign map[string][]string
	unknown []string
	gone    int
	taken   []status.AdoptedPair
	// unreserved: a person consented to using pairs that nobody reserved, too.
	unreserved bool
	open       int // what neither agrees with the record nor can be adopted yet
}

func (a *adopter) note(format string, args ...any) {
	a.unknown = append(a.unknown, fmt.Sprintf(format, args...))
}

// adoption looks at a key and works out what consent would record.
func (r *Rotator) adoption(ctx context.Context, p key.Policy, rec record.Record, unreserved bool) (
	*adopter, error,
) {
	anew := rec
	anew.Known = nil // a version accepted as foreign may turn out to be keyd's, now that its pair is there
	o := r.Observer.Look(ctx, p, anew)
	if o.HSM.Err != nil {
		return nil, fmt.Errorf("nothing can be adopted for key %s while the HSM cannot be used: %w", p.Key, o.HSM.Err)
	}
	a := &adopter{now: r.now(), p: p, rec: rec.Clone(), seen: o, unreserved: unreserved,
		rebuilt: map[int]*status.AdoptedGeneration{}, foreign: map[string][]string{}}
	a.rec.KeepPolicy(p)
	a.pairs()
	if err := a.discardOvertaken(r.newID); err != nil {
		return nil, err
	}
	a.lostPairs()
	for _, v := range p.Vaults {
		seen := o.Vaults[v.URL]
		if seen.Err != nil {
			a.note("vault %s could not be seen: keyd assumes that it holds every version", v.Name)
			if !seen.Unconfigured {
				a.open++
			}
			continue
		}
		a.versions(v, seen)
		a.lostVersions(v, seen)
	}
	for n := range a.rebuilt {
		a.rec.FinishFound(a.now, p, n)
	}
	return a, nil
}

// pairs adopts every pair that the record does not know, or knows only as never wrapped. It uses the number in a
// pair's label if that number is free; labels are hints only.
func (a *adopter) pairs() {
	objects := slices.Clone(a.seen.HSM.Objects)
	slices.SortFunc(objects, func(x, y key.Object) int {
		return cmp.Or(cmp.Compare(x.Label.Number, y.Label.Number), cmp.Compare(x.ID, y.ID))
	})
	for _, o := range objects {
		g := a.rec.WithID(o.ID)
		switch {
		case a.stray(o):
			a.leave(o)
		case o.Label.Pending && a.inVault(o):
			// The HSM was put back to a time before its first wrap.
			a.pair(o)
		case o.Label.Pending && !a.rec.KnowsID(o.ID):
			a.rec.AbandonFound(a.now, o.ID, o.Label.Number, o.Material.Fingerprint())
			a.take(o, status.GivenUp)
			a.note("CKA_ID %s (%s) was never wrapped for a vault: keyd abandons it", o.ID, o.Label)
			a.gone++
		case o.Label.Pending, g != nil && g.Fingerprint != "":
		default:
			a.pair(o)
		}
	}
	if len(a.rebuilt) > 0 {
		a.note("keyd does not know when each generation was superseded: the retire clocks start again")
	}
}

// inVault reports whether a vault shows a pair's material, and no generation is known to be that.
func (a *adopter) inVault(o key.Object) bool {
	if print := o.Material.Fingerprint(); print == "" || a.rec.WithFingerprint(print) != nil {
		return false
	}
	for _, seen := range a.seen.Vaults {
		for _, m := range seen.Material {
			if seen.Err == nil && m.Value.Matches(o.Material.Fingerprint()) == key.MatchYes {
				return true
			}
		}
	}
	return false
}

func (a *adopter) pair(o key.Object) {
	m := o.Material
	found := record.FoundPair{
		ID: o.ID, Number: o.Label.Number, Fingerprint: m.Fingerprint(), Spec: m.Spec(), Whole: o.Complete && m.Known(),
	}
	g, renumbered := a.rec.AdoptPair(a.now, found)
	if renumbered {
		a.note("CKA_ID %s is labelled generation %d, which is taken: it becomes %d", o.ID, o.Label.Number, g.Number)
	}
	if !found.Whole {
		a.note("CKA_ID %s (%s) is not a whole pair (%s): keyd leaves it alone, and never imports it again",
			o.ID, o.Label, o.Problem)
	}
	a.take(o, fmt.Sprintf("generation %d", g.Number))
	a.shown(g)
}

// stray reports whether nobody reserved a pair in this audit chain, and no second consent takes it in all the same. A
// pair that an earlier adoption left alone is one, too, until then.
func (a *adopter) stray(o key.Object) bool {
	if a.rec.LeftAlone(o.ID) {
		return !a.unreserved
	}
	return o.Late && !a.rec.KnowsID(o.ID) && !a.unreserved && (!o.Label.Pending || a.inVault(o))
}

// leave records that keyd leaves a pair alone: it is no generation, and is never imported.
func (a *adopter) leave(o key.Object) {
	if a.rec.LeftAlone(o.ID) {
		return
	}
	a.rec.LeaveAlone(a.now, o.ID, o.Label.Number, o.Material.Fingerprint())
	a.take(o, status.LeftAlone)
	a.note(
		"CKA_ID %s (%s) was reserved by nobody in this audit chain: keyd leaves it alone, and imports it nowhere. If "+
			"the state was put back from a backup, and the pair is keyd's: keyd adopt %s --unreserved",
		o.ID,
		o.Label,
		a.p.Key,
	)
	a.gone++
}

// take lists a pair among those that the consent accepts.
func (a *adopter) take(o key.Object, as string) {
	a.taken = append(a.taken, status.AdoptedPair{
		ID: o.ID, Label: o.Label.String(), Fingerprint: o.Material.Fingerprint(), As: as, Unreserved: o.Late,
	})
}

// shown is how adopt shows a person a generation that it found again.
func (a *adopter) shown(g *record.Generation) *status.AdoptedGeneration {
	if a.rebuilt[g.Number] == nil {
		a.rebuilt[g.Number] = &status.AdoptedGeneration{Number: g.Number, ID: g.ID, Fingerprint: g.Fingerprint,
			Versions: map[string][]string{}}
	}
	return a.rebuilt[g.Number]
}

func (a *adopter) discardOvertaken(newID record.NewID) error {
	behind := a.gone > 0 || len(a.rebuilt) > 0
	discarded, err := a.rec.DiscardOvertaken(a.now, behind, newID)
	for _, n := range discarded {
		a.note("generation %d was begun while others were unknown, and has no pair yet: keyd gives it up", n)
		a.gone++
	}
	for _, n := range a.rec.DiscardDoubtfulSpares(a.now, behind) {
		a.note("spare generation %d is of a record that was behind: keyd discards it, and makes another", n)
		a.gone++
	}
	return err
}

// lostPairs acknowledges that pinned pairs are gone from the HSM, or altered there.
func (a *adopter) lostPairs() {
	for _, pair := range a.rec.Pairs() {
		if slices.ContainsFunc(a.seen.HSM.Objects, func(o key.Object) bool {
			return o.ID == pair.ID && o.Complete && o.Material.Matches(pair.Fingerprint) == key.MatchYes
		}) {
			continue
		}
		a.rec.LosePair(a.now, pair.Generation)
		a.gone++
		if pair.Spare {
			a.note("spare generation %d is not in the HSM as it was pinned: keyd discards it, and makes another",
				pair.Generation)
			continue
		}
		a.note("generation %d is not in the HSM as it was pinned: it lives in its vaults only, and is never "+
			"imported again", pair.Generation)
	}
}

// versions makes placements of the versions that hold a generation's material, in the order of their creation. It
// notes all others as foreign.
func (a *adopter) versions(v key.Vault, seen record.VaultSeen) {
	bare, before := a.rec, a.rec.Clone()
	bare.Known = nil
	unknown := bare.Foreign(v.URL, seen.Versions)
	last := map[string]int{seen.Newest: 1} // among versions made within one second
	slices.SortFunc(unknown, func(x, y key.Version) int {
		return cmp.Or(x.Created.Compare(y.Created), cmp.Compare(last[x.ID], last[y.ID]), cmp.Compare(x.ID, y.ID))
	})
	for _, x := range unknown {
		m := seen.Material.Of(x.ID)
		g := a.rec.WithFingerprint(m.Fingerprint())
		switch {
		case g != nil:
			a.version(v, seen, x, g, &before)
		case !a.rec.Accepted(v.URL, x.ID):
			a.stranger(v, x, m)
		}
	}
}

func (a *adopter) version(v key.Vault, seen record.VaultSeen, x key.Version, g *record.Generation,
	before *record.Record) {
	a.rec.Disown(v.URL, x.ID)
	found := a.shown(g)
	found.Versions[v.Name] = append(found.Versions[v.Name], x.ID)
	if a.rec.AdoptVersion(a.now, before, g.Number, record.FoundVersion{
		Vault: v, Version: x, Newest: x.ID == seen.Newest, Operations: seen.Operations.Of(x.ID),
	}) {
		a.note("version %s in vault %s is disabled: it counts as retired, and is not proven", x.ID, v.Name)
	}
}

func (a *adopter) stranger(v key.Vault, x key.Version, m key.Material) {
	a.rec.Accept(v.URL, x.ID)
	a.foreign[v.Name] = append(a.foreign[v.Name], x.ID)
	switch {
	case m.State() == key.Unsupported:
		a.note("version %s in vault %s is a key of another family than keyd makes", x.ID, v.Name)
	case !m.Known():
		a.note("the vault %s does not show the material of version %s", v.Name, x.ID)
	case x.Tags[key.TagInstance] == a.rec.Instance:
		a.note("version %s in vault %s carries this instance's tags, and its pair is not in the HSM", x.ID, v.Name)
	}
}

// lostVersions acknowledges that recorded versions are gone from the vault.
func (a *adopter) lostVersions(v key.Vault, seen record.VaultSeen) {
	if seen.Deleted {
		a.note("the key is soft-deleted in vault %s: recover it first; keyd does not give up its versions", v.Name)
		a.open++
		return
	}
	for _, at := range seen.Late(&a.rec, v) {
		a.note("vault %s does not show version %s (generation %d), which was imported less than %s before: "+
			"its answer may be late, or the vault is "+
			"another one", v.Name, at.Version, at.Generation.Number, v.Kind.SettleTime())
		a.open++
	}
	for _, at := range seen.MissingAll(&a.rec, v) {
		a.gone++
		a.note("version %s (generation %d) is no longer in vault %s: what was encrypted under it there can only be "+
			"read after it is imported again",
			at.Version, at.Generation.Number, v.Name)
		a.rec.LoseVersion(at.Attempt)
	}
}
