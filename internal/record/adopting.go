package record

import (
	"cmp"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// FoundPair is a pair in the HSM that the record does not have, or knows only as one being made.
type FoundPair struct {
	ID          key.ID
	Number      int // from its label, which is a hint
	Fingerprint key.Fingerprint
	Spec        key.Spec
	// Whole: it reads back as keyd makes pairs, and its public key is known. A pair that is not whole may still be in
	// use: the record then has its generation, and keyd never imports it again.
	Whole bool
}

// AdoptPair takes a found pair for the generation that has its id, or for a new one, also where the record has it as a
// spare. renumbered says that the number of its label is taken by another.
func (r *Record) AdoptPair(now time.Time, f FoundPair) (g *Generation, renumbered bool) {
	if g = r.WithID(f.ID); g == nil {
		g, renumbered = r.addFound(now, f)
	}
	g.GenerateBegun, g.Pinned = now, now
	if f.Fingerprint != "" {
		g.Fingerprint, g.Spec = f.Fingerprint, f.Spec
	}
	if !f.Whole {
		g.LostInHSM = now
	}
	return g, renumbered
}

// addFound makes a generation from a pair whose id the record does not have, or has given up. It gets the number in
// its label if no other generation has it, so that a pair that turns up later than its successors is never placed
// over them.
func (r *Record) addFound(now time.Time, f FoundPair) (g *Generation, renumbered bool) {
	compromised := r.reclaim(f.ID)
	r.Strays = slices.DeleteFunc(r.Strays, func(s Stray) bool { return s.ID == f.ID })
	n := f.Number
	if s := r.SpareWithID(f.ID); s != nil {
		n = s.Number
		r.dropSpare(n)
	}
	if n < 1 || r.Numbered(n) != nil {
		n, renumbered = r.NextNumber(), true
	}
	at, _ := slices.BinarySearchFunc(r.Generations, n, func(g Generation, n int) int {
		return cmp.Compare(g.Number, n)
	})
	r.Generations = slices.Insert(r.Generations, at, Generation{
		Number: n, ID: f.ID, Reserved: now, Compromised: compromised,
		Reason: "found by adopt; who asked for it is not known", Requester: "unknown",
	})
	return &r.Generations[at], renumbered
}

// reclaim takes an id from those that were given up. What was called compromised by then stays so.
func (r *Record) reclaim(id key.ID) (compromised time.Time) {
	r.Abandoned = slices.DeleteFunc(r.Abandoned, func(a AbandonedID) bool {
		if a.ID == id && compromised.IsZero() {
			compromised = a.Compromised
		}
		return a.ID == id
	})
	return compromised
}

// LeaveAlone keeps a pair that nobody reserved out of everything that keyd does.
func (r *Record) LeaveAlone(now time.Time, id key.ID, number int, print key.Fingerprint) {
	r.Strays = append(r.Strays, Stray{ID: id, Number: number, Fingerprint: print, At: now})
}

// AbandonFound leaves a found pair that was never wrapped for a vault to the sweeper.
func (r *Record) AbandonFound(now time.Time, id key.ID, number int, print key.Fingerprint) {
	r.Abandoned = append(r.Abandoned, AbandonedID{
		ID: id, Generation: number, At: now, Reason: "found by adopt, and never wrapped for any vault",
		Fingerprint: print,
	})
}

// DiscardOvertaken gives up generations that were reserved and not pinned before adopt found later ones: nothing
// would come back to them. It returns their numbers. If the record is behind, the latest generation gets another id,
// because a pair may have been made under the id that it has.
func (r *Record) DiscardOvertaken(now time.Time, behind bool, newID NewID) (discarded []int, err error) {
	latest := r.Latest()
	for i := range r.Generations {
		g := &r.Generations[i]
		switch {
		case !g.unmade() || !g.Discarded.IsZero():
			continue
		case g != latest:
			discarded = append(discarded, g.Number)
			err = r.discard(now, g, newID, "overtaken by what adopt found")
		case behind || r.heldBehind():
			var id key.ID
			if id, err = newID(); err == nil {
				r.abandon(now, g, id, "reserved in a record that was behind")
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return discarded, nil
}

func (r *Record) heldBehind() bool { return r.Hold != nil && r.Hold.Code == key.HoldRecordBehind }

// LosePair acknowledges that the pair of a usable generation is gone from the HSM, or altered there. A spare is
// discarded.
func (r *Record) LosePair(now time.Time, n int) {
	if s := r.Spare(n); s != nil {
		r.discardSpare(now, s, "a spare that was gone from the HSM, or altered there", time.Time{})
	}
	if g := r.Generation(n); g != nil {
		g.LostInHSM = now
	}
}

// FoundVersion is a version in a vault that holds the material of one of the key's generations and that the record
// does not have.
type FoundVersion struct {
	Vault      key.Vault
	Version    key.Version
	Newest     bool            // it is the newest in that vault
	Operations []key.Operation // as the vault shows them; empty if unknown
}

// AdoptVersion assigns a found version to the placement that the record had for it, or makes a placement for it.
// before is the record as it was before the adoption. If the record has later generations in the vault, a version of
// an older one stays behind them. disabled says that the version counts as retired: it is disabled and not the
// newest, so no proof of it can pass, and a rotation must not wait for one.
func (r *Record) AdoptVersion(now time.Time, before *Record, n int, f FoundVersion) (disabled bool) {
	g, url, intended := r.Generation(n), f.Vault.URL, 0
	if last := before.NewestIn(url); last.Found() {
		intended = last.Generation.Number
	}
	p := r.again(now, before, g, f, g.Number < intended || r.NewestIn(url).Generation == g)
	if p == nil {
		p = r.placeFound(now, g, f, key.CauseAdopted)
		if g.Reserved.After(p.Created) {
			g.Reserved = p.Created
		}
		if g.Number < intended {
			p.Seq = 0
		}
	}
	if p.State != key.Imported || p.Version != f.Version.ID || f.Version.Enabled || f.Newest {
		return false
	}
	p.State, p.DisabledAt = key.Disabled, now
	return true
}

// again is the placement that the record had before and to which a version belongs: as the one whose import was open,
// as one that was given up as gone, or as a duplicate. It is nil for what was put back over a later generation, and for
// a duplicate that consumers follow.
func (r *Record) again(now time.Time, before *Record, g *Generation, f FoundVersion, repeats bool) *Placement {
	url := f.Vault.URL
	p := g.In(url)
	if p == nil {
		if p = g.VoidIn(url, f.Version.ID, key.ID(f.Version.Tags[key.TagAttempt])); p == nil ||
			p.Version != f.Version.ID {
			return nil
		}
	}
	switch {
	case p.State == key.Intended || p.State == key.Void:
		p.land(now, f.Version)
	case before.Placement(p.Attempt).Found() && repeats && !r.follow(Placed{g, p}, f):
		Placed{g, p}.alias(now, f.Version)
	default:
		return nil
	}
	return p
}

func (r *Record) placeFound(now time.Time, g *Generation, f FoundVersion, cause key.Cause) *Placement {
	x := f.Version
	attempt, err := key.ParseID(x.Tags[key.TagAttempt])
	if err != nil || r.Placement(attempt).Found() {
		attempt = key.ID(x.ID) // a version id has the form of an attempt id
	}
	p := Placement{
		Seq: r.nextSeq(), Attempt: attempt, Vault: f.Vault.URL, VaultName: f.Vault.Name, Cause: cause,
		State: key.Imported, At: now, ImportedAt: now, Version: x.ID, Created: x.Created, Expires: x.Expires,
	}
	if _, provable := key.ProofPair(f.Operations); provable {
		p.Operations = f.Operations // the configuration may have changed since the import
	}
	g.Placements = append(g.Placements, p)
	return &g.Placements[len(g.Placements)-1]
}

// FinishFound marks a generation that was found again as finished. If some vault lacks the last one, that is a
// rotation under way, and it stays unfinished.
func (r *Record) FinishFound(now time.Time, p key.Policy, n int) {
	g := r.Generation(n)
	lacks := slices.ContainsFunc(p.Vaults, func(v key.Vault) bool { return g.In(v.URL) == nil })
	if g.Finished.IsZero() && (g != r.Latest() || !lacks) {
		g.Finished = now
	}
}

// LoseVersion acknowledges that the version of a placement is gone from its vault.
func (r *Record) LoseVersion(attempt key.ID) {
	if at := r.Placement(attempt); at.Found() {
		at.State, at.Detail = key.Void, "no longer in the vault; acknowledged by adopt"
		at.DisableBegun, at.Disables, at.DisabledVersions = time.Time{}, "", nil
		r.dropEnabling(attempt)
	}
}

// Accept records that an operator accepts a foreign version: keyd may import over it.
func (r *Record) Accept(url, version string) {
	if r.Known == nil {
		r.Known = map[string][]string{}
	}
	r.Known[url] = append(r.Known[url], version)
}

// Accepted reports whether an operator accepted a foreign version.
func (r *Record) Accepted(url, version string) bool { return slices.Contains(r.Known[url], version) }

// Disown removes a version from the accepted foreign ones, because its pair is in the HSM.
func (r *Record) Disown(url, version string) {
	if r.Accepted(url, version) {
		r.Known[url] = slices.DeleteFunc(r.Known[url], func(id string) bool { return id == version })
	}
}
