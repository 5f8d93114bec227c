package simulate

import (
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// The judgements on what keyd asks of the world, at the moment it asks.

// judgeGenerate: an external effect has its intent before it.
func (w *World) judgeGenerate(id key.ID, name string, number int) {
	rec := w.store.records[name]
	g := rec.Numbered(number)
	abandoned := slices.ContainsFunc(
		rec.Abandoned,
		func(a record.AbandonedID) bool { return a.ID == id },
	) // meanwhile, by the other daemon
	if g == nil || !abandoned && (g.ID != id || g.GenerateBegun.IsZero()) ||
		!w.store.intents[intent{chain.GenerationIntended, id, ""}] {
		w.violate(
			"a pair is generated under %s for generation %d of %s without its intent in the record",
			id,
			number,
			name,
		)
	}
}

// judgeDestroy: only an abandoned, never pinned id.
func (w *World) judgeDestroy(id key.ID) {
	if !w.store.intents[intent{chain.DestroyIntended, id, ""}] {
		w.violate("what is under %s is destroyed without its intent in the record", id)
	}
	if w.hsm.pinned[id] {
		w.judgeSpareDestroyed(id)
	}
}

// judgeImport: the attempt is in the record first, it is the only open one in that
// vault but for those of compromised generations, which must not be in the way, and no
// foreign version that could be seen is imported over unasked.
func (w *World) judgeImport(v *vault, name string, attempt key.ID) {
	rec := w.store.records[name]
	g, p := placementOf(&rec, attempt)
	if p == nil || p.Vault != v.URL || !w.store.intents[intent{chain.ImportIntended, attempt, v.URL}] {
		w.violate("%s is imported into %s without its intent in the record", name, v.Name)
	}
	if g.Fingerprint == "" {
		w.violate("generation %d of %s is imported before it is pinned", g.Number, name)
	}
	w.judgeSpareUse(name, g.ID)
	for i := range rec.Generations {
		if !rec.Generations[i].Compromised.IsZero() {
			continue
		}
		for _, other := range rec.Generations[i].Placements {
			if other.Vault == v.URL && other.State == key.Intended && other.Attempt != attempt {
				w.violate(
					"%s is imported into %s while the attempt %s there is not settled",
					name,
					v.Name,
					other.Attempt,
				)
			}
		}
	}
	w.judgeNothingGone(v, &rec)
	newest := v.newest(name)
	if newest != nil && newest.foreign && v.visible(newest, w.acting.began) &&
		!slices.Contains(rec.Known[v.URL], newest.ID) && !recorded(&rec, v.URL, newest.ID) {
		w.violate("%s is imported into %s over the foreign version %s without consent", name, v.Name, newest.ID)
	}
	w.managed(name).attempt(attempt).sent = w.now
}

// judgeExpiry: only the latest generation gets an expiry date, when a rotation or a
// new vault is the cause, and none that is past.
func (w *World) judgeExpiry(v *vault, r key.ImportRequest, attempt key.ID) {
	rec := w.store.records[r.Key]
	g, p := placementOf(&rec, attempt)
	switch {
	case p == nil || r.Expires.IsZero():
	case g.Number != rec.Latest().Number || p.Cause != key.CauseRotation && p.Cause != key.CauseNewVault:
		w.violate("generation %d of %s is given an expiry date in %s, cause %s", g.Number, r.Key, v.Name, p.Cause)
	case !r.Expires.After(v.now()):
		w.violate(
			"generation %d of %s is imported into %s to expire at %s, which is past",
			g.Number,
			r.Key,
			v.Name,
			r.Expires,
		)
	}
	if p != nil && !p.Expires.Equal(r.Expires) {
		w.violate("the record of %s does not have the expiry date that %s is given", r.Key, v.Name)
	}
}

// judgeNothingGone: nothing is imported where versions of the record are gone, and no
// person gave them up.
func (w *World) judgeNothingGone(v *vault, rec *record.Record) {
	if c := v.content(rec.Key); c.purged.IsZero() || !c.purged.Before(w.acting.began) {
		return // nor by a look of before
	}
	for i := range rec.Generations {
		for _, p := range rec.Generations[i].Placements {
			recent := p.Created.Add(v.Kind.SettleTime() + time.Minute).After(w.acting.began)
			if p.Vault == v.URL && p.Version != "" && p.State != key.Void && !recent &&
				v.byID(rec.Key, p.Version) == nil {
				w.violate(
					"%s is imported into %s, where version %s of the record is gone, and nobody gave it up",
					rec.Key,
					v.Name,
					p.Version,
				)
			}
		}
	}
}

// visible reports whether every answer at that time showed the version.
func (v *vault) visible(x *version, at time.Time) bool { return v.propagated(x.landed, at) }

// shows reports whether every answer at a time had to have the version, or that its key
// is soft-deleted.
func (v *vault) shows(name, id string, at time.Time) bool {
	x := v.byID(name, id)
	return x != nil && v.visible(x, at) && v.propagated(v.content(name).past.last(), at)
}

// propagated reports whether every answer at a time showed what was done at an earlier one.
func (v *vault) propagated(done, at time.Time) bool {
	if v.Kind == key.ManagedHSM {
		done = done.Add(replication)
	}
	return done.Before(at)
}

// judgeLanding: nothing that is there already is made a second time by keyd.
func (w *World) judgeLanding(v *vault, name string, x *version) {
	rec := w.store.records[name]
	if v.landed[x.attempt] {
		w.violate("doubled: the PUT of attempt %s of %s into %s was sent a second time", x.attempt, name, v.Name)
	}
	v.landed[x.attempt] = true
	_, p := placementOf(&rec, x.attempt)
	if p == nil {
		x.late = true // the record was lost since
		return
	}
	if x.late = p.State != key.Intended; x.late {
		w.result.Late++
		w.log("the PUT of attempt %s lands after keyd gave it up", x.attempt[:6])
		return
	}
	began := w.managed(name).attempt(x.attempt).looked
	versions := v.content(name).versions
	for i, y := range versions[:len(versions)-1] {
		if y.modulus != x.modulus || y.mat != x.mat {
			continue
		}
		_, before := placementOf(&rec, y.attempt)
		if before == nil { // an old record may know it as an alias
			_, before = holderOf(&rec, v.URL, y.ID)
		}
		last := i == len(versions)-2
		switch {
		case y.late && !v.visible(y, began):
		case p.Cause == key.CauseRollback && before != nil && before.Version != y.ID:
			// An alias was never proven, and what is put back will be.
		case p.Cause == key.CauseRepair || p.Cause == key.CauseRollback:
			if last && v.visible(y, began) {
				w.violate("doubled: %s in %s: %s of what is the newest there already", name, v.Name, p.Cause)
			}
		case before != nil && slices.Contains(givenUpStates, before.State):
		default:
			w.violate(
				"doubled: %s in %s: version %s is there already with the material of the new %s",
				name,
				v.Name,
				y.ID[:6],
				x.ID[:6],
			)
		}
	}
}

// judgeDisable: never the newest, nor while that is of no use, and only by the retire
// rule with which the step was begun, by true time.
func (w *World) judgeDisable(v *vault, name string, x *version) {
	rec := w.store.records[name]
	g, p := holderOf(&rec, v.URL, x.ID)
	if p == nil {
		w.violate("version %s of %s in %s, which keyd does not know as its own, is disabled", x.ID, name, v.Name)
	}
	if !w.store.intents[intent{chain.DisableIntended, g.ID, v.URL}] {
		w.violate("version %s of %s in %s is disabled without its intent in the record", x.ID, name, v.Name)
	}
	newest := v.newest(name)
	if newest.mat == x.mat && v.visible(newest, w.acting.began) {
		w.violate("the newest material of %s in %s is disabled", name, v.Name)
	}
	if !newest.Enabled && v.propagated(newest.past.last(), w.acting.began) {
		w.violate("version %s of %s in %s is disabled while the newest is disabled, too", x.ID, name, v.Name)
	}
	const tolerance = 10 * time.Minute // of the daemon's clock
	if e := newest.Expires; !e.IsZero() && e.Add(tolerance).Before(w.acting.began) &&
		v.visible(newest, w.acting.began) {
		w.violate("version %s of %s in %s is disabled while the newest has expired", x.ID, name, v.Name)
	}
	if !v.succeeded(&rec, name, g.Number) {
		w.violate(
			"version %s of %s in %s (generation %d) is disabled before a later generation is proven there",
			x.ID,
			name,
			v.Name,
			g.Number,
		)
	}
	rule := w.acting.under.Retire
	if rule.Never() {
		w.violate("version %s of %s in %s is disabled, and no rule says so", x.ID, name, v.Name)
	}
	if since := v.supersededAt(&rec, name, g.Number); since.IsZero() ||
		w.now.Sub(since) < rule.DisableAfter-tolerance {
		w.violate(
			"version %s of %s in %s (generation %d) is disabled %s after it was superseded, and the rule says %s",
			x.ID,
			name,
			v.Name,
			g.Number,
			w.now.Sub(since),
			rule.DisableAfter,
		)
	}
}

// succeeded reports whether a later generation is active in the vault by the record,
// and truly works there.
func (v *vault) succeeded(rec *record.Record, name string, number int) bool {
	return slices.ContainsFunc(v.content(name).versions, func(x *version) bool {
		g, p := holderOf(rec, v.URL, x.ID)
		return g != nil && g.Number > number && p.Good() && x.unwrapped && x.mat.print == g.Fingerprint
	})
}

// supersededAt is when the first version of a later generation landed.
func (v *vault) supersededAt(rec *record.Record, name string, number int) time.Time {
	for _, x := range v.content(name).versions {
		if g, _ := holderOf(rec, v.URL, x.ID); g != nil && g.Number > number {
			return x.landed
		}
	}
	return time.Time{}
}

func placementOf(rec *record.Record, attempt key.ID) (*record.Generation, *record.Placement) {
	for i := range rec.Generations {
		for j := range rec.Generations[i].Placements {
			if p := &rec.Generations[i].Placements[j]; p.Attempt == attempt {
				return &rec.Generations[i], p
			}
		}
	}
	return nil, nil
}

// holderOf is the placement that accounts for a version.
func holderOf(rec *record.Record, url, id string) (*record.Generation, *record.Placement) {
	for i := range rec.Generations {
		for j := range rec.Generations[i].Placements {
			p := &rec.Generations[i].Placements[j]
			if p.Vault == url && (p.Version == id || slices.Contains(p.Aliases, id)) {
				return &rec.Generations[i], p
			}
		}
	}
	return nil, nil
}

func recorded(rec *record.Record, url, id string) bool {
	_, p := holderOf(rec, url, id)
	return p != nil
}

// givenUpStates are those of a version under which the same material may be imported once more: it is of no use, or an
// operator let it be tried again.
var givenUpStates = []key.PlacementState{key.Refuted, key.Lifted, key.Void}
