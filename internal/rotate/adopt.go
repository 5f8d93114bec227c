package rotate

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// Adoption looks at one key and tells what Adopt would record: generations found
// again by modulus, foreign versions over which keyd may import, and what the
// record has that is gone. It changes nothing.
func (r *Rotator) Adoption(ctx context.Context, p key.Policy) (status.Adoption, error) {
	rec, err := r.load(ctx, p.Key)
	if err != nil {
		return status.Adoption{}, err
	}
	_, shown, err := r.adoption(ctx, p, rec)
	return shown, err
}

// Adopt records the operator's consent to exactly what Adoption showed under the
// token.
func (r *Rotator) Adopt(ctx context.Context, p key.Policy, actor, reason, token string) error {
	rec, err := r.load(ctx, p.Key)
	if err != nil {
		return err
	}
	adopted, shown, err := r.adoption(ctx, p, rec)
	if err != nil {
		return err
	}
	if shown.Token != token {
		return refuse("what key %s shows has changed since it was looked at: look again with keyd adopt %s", p.Key, p.Key)
	}
	if shown.Empty() {
		return refuse("there is nothing to adopt for key %s", p.Key)
	}
	rec = adopted.rec
	if rec.Hold != nil && consentLifts(rec.Hold.Code) {
		rec.Lift(r.now())
	}
	if len(shown.Rebuild) > 0 {
		rec.Hold = &key.Hold{Code: key.HoldAdopted, Since: r.now(), By: actor,
			Reason: fmt.Sprintf("the record of %s was rebuilt from what was found; compare it with what you know (keyd status %s), then: keyd resume %s", p.Key, p.Key, p.Key)}
	}
	text, err := json.Marshal(shown)
	if err != nil {
		return err
	}
	if _, err := r.saveAs(ctx, rec, actor, "adopted", map[string]string{"reason": reason, "adopted": string(text)}); err != nil {
		return err
	}
	r.views.drop(p.Key)
	return nil
}

// consentLifts reports whether a hold is about what adopting settles. Others stay:
// somebody else had a reason for them.
func consentLifts(code key.HoldCode) bool {
	switch code {
	case key.HoldForeign, key.HoldNameTaken, key.HoldVersionsMissing, key.HoldRecordBehind, key.HoldObjectMissing:
		return true
	}
	return false
}

// adopter works out one adoption on a copy of the record.
type adopter struct {
	now     time.Time
	p       key.Policy
	rec     key.Record
	o       *Observation
	rebuilt map[int]*status.AdoptedGeneration
	foreign map[string][]string
	unknown []string
	gone    int
	open    int // what is neither agreement nor to be adopted yet
}

func (r *Rotator) adoption(ctx context.Context, p key.Policy, rec key.Record) (*adopter, status.Adoption, error) {
	anew := rec
	anew.Known = nil // what was accepted as foreign may be keyd's, now that its pair is there
	o := r.seeAll(ctx, p, anew)
	if o.HSM.Err != nil {
		return nil, status.Adoption{}, fmt.Errorf("nothing can be adopted for key %s while the HSM cannot be used: %w", p.Key, o.HSM.Err)
	}
	a := &adopter{now: r.now(), p: p, rec: rec.Clone(), o: o,
		rebuilt: map[int]*status.AdoptedGeneration{}, foreign: map[string][]string{}}
	a.rec.Vaults, a.rec.Operations = p.Vaults, p.Operations
	a.adoptObjects()
	if err := a.discardOvertaken(r.newID); err != nil {
		return nil, status.Adoption{}, err
	}
	a.lostObjects()
	for _, v := range p.Vaults {
		seen := o.Vaults[v.URL]
		if seen.Err != nil {
			a.unknown = append(a.unknown, fmt.Sprintf("vault %s could not be seen: what it holds is not known, and counts as everything", v.Name))
			if !seen.Unconfigured {
				a.open++
			}
			continue
		}
		a.adoptVersions(v, seen)
		a.lostVersions(v, seen)
	}
	a.finishRebuilt()
	shown, err := a.show()
	return a, shown, err
}

// adoptObjects takes every pair that the record does not know, or knows only as one
// that was never wrapped. Labels give the number where it is free; they are hints
// only.
func (a *adopter) adoptObjects() {
	objects := slices.Clone(a.o.HSM.Objects)
	slices.SortFunc(objects, func(x, y key.Object) int {
		return cmp.Or(cmp.Compare(x.Label.Number, y.Label.Number), cmp.Compare(x.ID, y.ID))
	})
	pl := &planner{p: a.p, r: &a.rec, o: a.o}
	for _, o := range objects {
		g := a.generationWithID(o.ID)
		switch {
		case o.Label.Pending && !pl.knowsID(o.ID):
			a.rec.Abandoned = append(a.rec.Abandoned, key.AbandonedID{ID: o.ID, Generation: o.Label.Number, At: a.now, Reason: "found by adopt, and never wrapped for any vault"})
			a.unknown = append(a.unknown, fmt.Sprintf("CKA_ID %s (%s) was never wrapped for a vault: it is given up as abandoned", o.ID, o.Label))
			a.gone++
		case o.Label.Pending, g != nil && g.Fingerprint != "":
		case g != nil:
			a.pin(g, o)
		default:
			a.pin(a.newGeneration(o), o)
		}
	}
	if len(a.rebuilt) > 0 {
		a.unknown = append(a.unknown, "when each generation was superseded is not known: retire clocks start anew")
	}
}

// discardOvertaken gives up what was reserved and not pinned before later generations
// were found: nothing would come back to it. The latest one gets another id where the
// record is behind, as a pair may have been made under the one it has.
func (a *adopter) discardOvertaken(newID func() (key.ID, error)) error {
	latest := a.rec.Latest()
	for i := range a.rec.Generations {
		g := &a.rec.Generations[i]
		if g.Fingerprint != "" || !g.Discarded.IsZero() || !g.LostInHSM.IsZero() || len(g.Placements) > 0 {
			continue
		}
		if g == latest {
			if a.rec.Hold != nil && a.rec.Hold.Code == key.HoldRecordBehind {
				id, err := newID()
				if err != nil {
					return err
				}
				giveUpID(a.now, &a.rec, g, id, "reserved in a record that was behind")
			}
			continue
		}
		if err := discard(a.now, &a.rec, g, newID, "overtaken by what adopt found"); err != nil {
			return err
		}
		a.unknown = append(a.unknown, fmt.Sprintf("generation %d was begun while others were not known, and has no pair yet: it is given up", g.Number))
		a.gone++
	}
	return nil
}

func (a *adopter) generationWithID(id key.ID) *key.Generation {
	for i := range a.rec.Generations {
		if a.rec.Generations[i].ID == id {
			return &a.rec.Generations[i]
		}
	}
	return nil
}

// newGeneration makes a generation of a pair whose id the record does not have, or
// has given up. It gets the number of its label if no other has it, so that one that turns
// up later than its successors is never placed over them.
func (a *adopter) newGeneration(o key.Object) *key.Generation {
	a.rec.Abandoned = slices.DeleteFunc(a.rec.Abandoned, func(x key.AbandonedID) bool { return x.ID == o.ID })
	n := o.Label.Number
	if n < 1 || a.rec.Generation(n) != nil {
		n = a.rec.NextNumber()
		a.unknown = append(a.unknown, fmt.Sprintf("CKA_ID %s is labelled generation %d, which is taken: it becomes %d", o.ID, o.Label.Number, n))
	}
	at, _ := slices.BinarySearchFunc(a.rec.Generations, n, func(g key.Generation, n int) int { return cmp.Compare(g.Number, n) })
	a.rec.Generations = slices.Insert(a.rec.Generations, at, key.Generation{
		Number: n, ID: o.ID, Reserved: a.now, Reason: "found by adopt; who asked for it is not known", Requester: "unknown",
	})
	return &a.rec.Generations[at]
}

// pin takes a found pair's material for the generation's. A pair that is not whole
// may be in use all the same: its generation is known from then on, and never
// imported again.
func (a *adopter) pin(g *key.Generation, o key.Object) {
	g.GenerateBegun, g.Pinned = a.now, a.now
	if o.Public != nil {
		if print, err := key.FingerprintOf(o.Public); err == nil {
			g.Fingerprint, g.Spec = print, key.Spec(fmt.Sprintf("RSA-%d", o.Public.N.BitLen()))
		}
	}
	if !o.Complete || g.Fingerprint == "" {
		a.unknown = append(a.unknown, fmt.Sprintf("CKA_ID %s (%s) is not a whole pair (%s): keyd leaves it alone, and never imports it again", o.ID, o.Label, o.Problem))
		g.LostInHSM = a.now
	}
	a.rebuilt[g.Number] = &status.AdoptedGeneration{Number: g.Number, ID: g.ID, Fingerprint: g.Fingerprint, Versions: map[string][]string{}}
}

// lostObjects acknowledges that pinned pairs are gone from the HSM, or altered
// there.
func (a *adopter) lostObjects() {
	for i := range a.rec.Generations {
		g := &a.rec.Generations[i]
		if !g.Usable() || slices.ContainsFunc(a.o.HSM.Objects, func(o key.Object) bool {
			return o.ID == g.ID && o.Complete && printIs(o, g.Fingerprint)
		}) {
			continue
		}
		g.LostInHSM = a.now
		a.gone++
		a.unknown = append(a.unknown, fmt.Sprintf("generation %d is not in the HSM as it was pinned: it lives in its vaults only, and is never imported again", g.Number))
	}
}

// finishRebuilt marks every rebuilt generation finished, except a last one that
// some vault lacks: that is a rotation under way.
func (a *adopter) finishRebuilt() {
	for n := range a.rebuilt {
		g := a.rec.Generation(n)
		if !g.Finished.IsZero() {
			continue
		}
		last := g == a.rec.Latest()
		everywhere := true
		for _, v := range a.p.Vaults {
			everywhere = everywhere && g.In(v.URL) != nil
		}
		if !last || everywhere {
			g.Finished = a.now
		}
	}
}

func (a *adopter) generationOf(print key.Fingerprint) *key.Generation {
	for i := range a.rec.Generations {
		if g := &a.rec.Generations[i]; print != "" && g.Fingerprint == print {
			return g
		}
	}
	return nil
}

func (a *adopter) show() (status.Adoption, error) {
	shown := status.Adoption{Key: a.p.Key, Unknown: a.unknown, Gone: a.gone, Open: a.open}
	if len(a.foreign) > 0 {
		shown.Foreign = a.foreign
	}
	for _, g := range a.rebuilt {
		shown.Rebuild = append(shown.Rebuild, *g)
	}
	sort.Slice(shown.Rebuild, func(i, j int) bool { return shown.Rebuild[i].Number < shown.Rebuild[j].Number })
	switch {
	case shown.Empty() && a.open > 0:
		shown.Consequence = fmt.Sprintf("nothing yet: what is told above is open, and can be neither taken for agreement nor "+
			"adopted. Look again in a few minutes, or once the vault can be seen: keyd adopt %s", a.p.Key)
	case shown.Empty():
		shown.Consequence = "nothing: the record agrees with the HSM and with every vault that could be seen"
	case len(a.rebuilt) > 0:
		shown.Consequence = "the record is rebuilt as shown and the key is held; after keyd resume each version is proven, and then rotation goes on"
	case len(a.foreign) > 0:
		shown.Consequence = "keyd may import over the versions shown as foreign: its own become the newest, and versionless consumers follow. The foreign ones stay enabled and untouched"
	default:
		shown.Consequence = "what is gone is given up as shown, and what can be imported again is"
	}
	b, err := json.Marshal(shown)
	if err != nil {
		return shown, fmt.Errorf("encode what was found: %w", err)
	}
	shown.Token = digest(b)
	return shown, nil
}
