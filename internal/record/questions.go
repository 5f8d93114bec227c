package record

import (
	"cmp"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Latest is the generation with the highest number that was not discarded; nil for none.
func (r *Record) Latest() *Generation {
	return r.findLast(func(g *Generation) bool { return g.Discarded.IsZero() })
}

// Current is the generation under way: the latest one, unless it is finished or may no longer be placed; nil for
// none.
func (r *Record) Current() *Generation {
	g := r.Latest()
	if g == nil || !g.Finished.IsZero() || !g.Compromised.IsZero() || !g.LostInHSM.IsZero() ||
		g.State() == key.Suspended {
		return nil
	}
	return g
}

// Empty reports whether the key never had a generation.
func (r *Record) Empty() bool { return len(r.Generations) == 0 }

// AnyPlaced reports whether keyd ever intended to place one of the generations in a vault.
func (r *Record) AnyPlaced() bool {
	for range r.all {
		return true
	}
	return false
}

// NextNumber is one more than the highest number ever used.
func (r *Record) NextNumber() int {
	highest := max(r.highest(), r.Burned)
	if n := len(r.Spares); n > 0 {
		highest = max(highest, r.Spares[n-1].Number)
	}
	return highest + 1
}

// LastRotation is when the latest generation was reserved; zero when there is none.
func (r *Record) LastRotation() time.Time {
	if g := r.Latest(); g != nil {
		return g.ReservedAt()
	}
	return time.Time{}
}

// ReservedWithin counts the generations that were reserved less than span before now, and returns when the first of
// them was. It also counts one reserved in the future, by a clock that ran ahead.
func (r *Record) ReservedWithin(now time.Time, span time.Duration) (count int, first time.Time) {
	for i := range r.Generations {
		at := r.Generations[i].ReservedAt()
		if now.Sub(at) >= span {
			continue
		}
		if count == 0 {
			first = at
		}
		count++
	}
	return count, first
}

// WithFingerprint returns the first generation with this material; nil for none, and for "".
func (r *Record) WithFingerprint(print key.Fingerprint) *Generation {
	return r.find(func(g *Generation) bool { return print != "" && g.Fingerprint == print })
}

// WithID returns the generation that has a CKA_ID now; nil for none.
func (r *Record) WithID(id key.ID) *Generation {
	return r.find(func(g *Generation) bool { return g.ID == id })
}

// GaveUp reports whether keyd gave up a CKA_ID.
func (r *Record) GaveUp(id key.ID) bool {
	return slices.ContainsFunc(r.Abandoned, func(a AbandonedID) bool { return a.ID == id })
}

// LeftAlone reports whether a CKA_ID is that of a stray.
func (r *Record) LeftAlone(id key.ID) bool {
	return slices.ContainsFunc(r.Strays, func(s Stray) bool { return s.ID == id })
}

// KnowsID reports whether the record has a CKA_ID, also a spare's, one that was given up, and a stray's.
func (r *Record) KnowsID(id key.ID) bool {
	return r.WithID(id) != nil || r.SpareWithID(id) != nil || r.GaveUp(id) || r.LeftAlone(id)
}

// Pair is a pair that the HSM should have according to the record.
type Pair struct {
	Generation  int
	ID          key.ID
	Fingerprint key.Fingerprint
	Pinned      time.Time
	Spare       bool
}

// Pairs lists the pairs that must be whole in the HSM: those of usable generations, and of spares.
func (r *Record) Pairs() (pairs []Pair) {
	for _, g := range r.Generations {
		if g.Usable() {
			pairs = append(pairs, Pair{g.Number, g.ID, g.Fingerprint, g.Pinned, false})
		}
	}
	return slices.DeleteFunc(append(pairs, r.SparePairs()...), func(p Pair) bool { return p.Fingerprint == "" })
}

// Owner is the generation to which a version belongs: by its material, otherwise by its attempt tag; nil for none.
func (r *Record) Owner(print key.Fingerprint, v key.Version) (g *Generation, byMaterial bool) {
	if g := r.WithFingerprint(print); g != nil {
		return g, true
	}
	if attempt := key.ID(v.Tags[key.TagAttempt]); attempt != "" {
		return r.Placement(attempt).Generation, false
	}
	return nil, false
}

// Versions lists every version in a vault that the record knows, with its placement. A foreign version that an
// operator accepted has none. A version that was given up as gone is not here: it may come back.
func (r *Record) Versions(url string) map[string]Placed {
	versions := map[string]Placed{}
	for at := range r.in(url) {
		if !at.InVault() {
			continue
		}
		for _, id := range at.Versions() {
			versions[id] = at
		}
	}
	for _, id := range r.Known[url] {
		if _, ours := versions[id]; !ours {
			versions[id] = Placed{}
		}
	}
	return versions
}

// Foreign lists the versions that a vault showed and the record does not have.
func (r *Record) Foreign(url string, shown []key.Version) (foreign []key.Version) {
	known := r.Versions(url)
	for _, v := range shown {
		if _, ok := known[v.ID]; !ok {
			foreign = append(foreign, v)
		}
	}
	return foreign
}

// Holds reports whether one of the vault's versions is keyd's own.
func (r *Record) Holds(url, version string) bool {
	for at := range r.in(url) {
		if at.Version != "" && slices.Contains(at.Versions(), version) {
			return true
		}
	}
	return false
}

// Imported lists the placements of which the vault is known to have a version. It ignores aliases.
func (r *Record) Imported(url string) (list []Placed) {
	for at := range r.in(url) {
		if at.InVault() {
			list = append(list, at)
		}
	}
	return list
}

// NewestIn is the placement made last in a vault, among those that still count.
func (r *Record) NewestIn(url string) (last Placed) {
	for at := range r.in(url) {
		if at.Counts() && (!last.Found() || at.Seq > last.Seq) {
			last = at
		}
	}
	return last
}

// Untouched reports whether keyd never began an import into a vault, and no person accepted a version there.
func (r *Record) Untouched(url string) bool {
	for range r.in(url) {
		return false
	}
	return len(r.Known[url]) == 0
}

// Open lists the placements in a vault for which keyd does not know yet whether the import happened.
func (r *Record) Open(url string) (open []Placed) {
	for at := range r.in(url) {
		if at.State == key.Intended {
			open = append(open, at)
		}
	}
	return open
}

// Unresolved is the first placement in a vault that is open or not proven. It skips those of a compromised
// generation: it no longer matters whether they work, and they must not block anything.
func (r *Record) Unresolved(url string) Placed {
	for at := range r.in(url) {
		if at.Generation.Compromised.IsZero() && (at.State == key.Intended || at.State == key.Imported) {
			return at
		}
	}
	return Placed{}
}

// RefutedIn is the last refuted placement in a vault, of a generation that is not compromised.
func (r *Record) RefutedIn(url string) (last Placed) {
	for at := range r.in(url) {
		if at.Generation.Compromised.IsZero() && at.State == key.Refuted && (!last.Found() || at.Seq > last.Seq) {
			last = at
		}
	}
	return last
}

// GoodUpTo is the latest usable generation up to number n that was proven in the vault; nil for none.
func (r *Record) GoodUpTo(url string, n int) *Generation {
	return r.findLast(func(g *Generation) bool {
		return g.Number <= n && g.Usable() && g.has(func(p Placement) bool { return p.Vault == url && p.Good() })
	})
}

// Missing is the oldest generation that a vault should get next: usable, not suspended, not left out while it is
// under way, and later than every generation that the vault already has, because an older one would become its newest
// version. nil: none.
func (r *Record) Missing(p key.Policy, url string) *Generation {
	highest := 0
	if has := r.findLast(func(g *Generation) bool { return g.In(url) != nil }); has != nil {
		highest = has.Number
	}
	return r.find(func(g *Generation) bool {
		return g.Number > highest && g.Usable() && g.State() != key.Suspended &&
			(!g.Finished.IsZero() || !g.LeavesOut(p, url))
	})
}

// Earlier reports whether a version in a vault belongs to an earlier placement there than the given one.
func (r *Record) Earlier(url, version string, than Placed) bool {
	for at := range r.in(url) {
		if at.Version == version && at.Seq < than.Seq {
			return true
		}
	}
	return false
}

// Adopted reports whether the record has a version only by a person's consent.
func (r *Record) Adopted(url, version string) bool {
	if slices.Contains(r.Known[url], version) {
		return true
	}
	for at := range r.in(url) {
		if at.Version == version && at.Cause == key.CauseAdopted {
			return true
		}
	}
	return false
}

// Provable lists the placements that keyd proves regularly: proven once, and enabled as far as the record knows. They
// are sorted by vault, with the newest of each vault first.
func (r *Record) Provable() (list []Placed) {
	for at := range r.all {
		disabled := slices.Contains(at.DisabledVersions, at.Version)
		if at.Version != "" && !disabled && (at.State == key.Proven || at.Older()) {
			list = append(list, at)
		}
	}
	slices.SortStableFunc(list, func(a, b Placed) int {
		return cmp.Or(cmp.Compare(a.Vault, b.Vault), cmp.Compare(b.Seq, a.Seq))
	})
	return list
}

// VaultName is the nickname of a vault's URL: the configured one, otherwise the one that a placement had, otherwise
// the URL.
func (r *Record) VaultName(p key.Policy, url string) string {
	if v, ok := p.Vault(url); ok {
		return v.Name
	}
	for at := range r.in(url) {
		if at.VaultName != "" {
			return at.VaultName
		}
	}
	return url
}

// InState counts a vault's placements in a state.
type InState struct {
	VaultName string
	State     key.PlacementState
}

// Counts counts the placements by vault and state.
func (r *Record) Counts() map[InState]int {
	counts := map[InState]int{}
	for at := range r.all {
		counts[InState{at.VaultName, at.State}]++
	}
	return counts
}

// OldestRequest is when the longest waiting request was made, either among those because of a compromise or among the
// others; zero for none.
func (r *Record) OldestRequest(compromise bool) (at time.Time) {
	for _, q := range r.Requests {
		if q.Compromise == compromise && (at.IsZero() || q.At.Before(at)) {
			at = q.At
		}
	}
	return at
}

// Map converts every generation, oldest first, to a type of the caller's own, in which it shows them to people or
// programs.
func Map[G, P any](r Record, generation func(Generation, []P) G, placement func(Placement) P) []G {
	return mapEach(r.Generations, generation, placement)
}

// MapSpares is Map for the spares.
func MapSpares[G, P any](r Record, generation func(Generation, []P) G) []G {
	return mapEach(r.Spares, generation, nil)
}

func mapEach[G, P any](list []Generation, generation func(Generation, []P) G, placement func(Placement) P) []G {
	var out []G
	for _, g := range list {
		var placements []P
		for _, p := range g.Placements {
			placements = append(placements, placement(p))
		}
		out = append(out, generation(g, placements))
	}
	return out
}
