package simulate

import (
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

// These judges look at what keyd asks of the world, at the moment it asks.

// judgeGenerate fails unless the intent of a generation is in the record before it.
func (w *World) judgeGenerate(id key.ID, name string, number int) {
	rec := w.store.records[name]
	g := rec.Numbered(number)
	abandoned := slices.ContainsFunc(
		rec.Abandoned,
		func(a record.AbandonedID) bool { return a.ID == id },
	) // by the other daemon, meanwhile, or by a compromise, which discards a spare with its number
	if !abandoned && (g == nil || g.ID != id || g.GenerateBegun.IsZero()) ||
		!w.store.intents[intent{chain.GenerationIntended, id, ""}] {
		w.violate(
			"a pair is generated under %s for generation %d of %s before its intent is in the record",
			id,
			number,
			name,
		)
	}
}

// judgeDestroy fails unless what keyd destroys is under an abandoned id that was never pinned.
func (w *World) judgeDestroy(id key.ID) {
	if !w.store.intents[intent{chain.DestroyIntended, id, ""}] {
		w.violate("what is under %s is destroyed before its intent is in the record", id)
	}
	if w.hsm.pinned[id] {
		w.judgeSpareDestroyed(id)
	}
}

// judgeImport fails unless the attempt is in the record first, no other attempt in that
// vault is open, and the newest version is not a foreign one that keyd could see and
// nobody accepted. Open attempts of compromised generations do not count: they must not
// be in the way.
func (w *World) judgeImport(v *vault, name string, attempt key.ID) {
	rec := w.store.records[name]
	g, p := placementOf(&rec, attempt)
	if p == nil || p.Vault != v.URL || !w.store.intents[intent{chain.ImportIntended, attempt, v.URL}] {
		w.violate("%s is imported into %s before its intent is in the record", name, v.Name)
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
}

// judgeExpiry fails if anything but the latest generation gets an expiry date, if the
// cause is neither a rotation nor a new vault, or if the date is past.
func (w *World) judgeExpiry(v *vault, r key.ImportRequest, attempt key.ID) {
	rec := w.store.records[r.Key]
	g, p := placementOf(&rec, attempt)
	switch {
	case p == nil || r.Expires.IsZero():
	case g.Number != rec.Latest().Number || p.Cause != key.CauseRotation && p.Cause != key.CauseNewVault:
		w.violate(
			"generation %d of %s gets an expiry date in %s, and the cause of the import is %s",
			g.Number,
			r.Key,
			v.Name,
			p.Cause,
		)
	case !r.Expires.After(v.now()):
		w.violate(
			"generation %d of %s is imported into %s with the expiry date %s, which is past",
			g.Number,
			r.Key,
			v.Name,
			r.Expires,
		)
	}
	if p != nil && !p.Expires.Equal(r.Expires) {
		w.violate("the record of %s does not have the expiry date that its version in %s gets", r.Key, v.Name)
	}
}

// judgeNothingGone fails if keyd imports into a vault from which recorded versions are
// gone, and no person has given them up.
func (w *World) judgeNothingGone(v *vault, rec *record.Record) {
	if c := v.content(rec.Key); c.purged.IsZero() || !c.purged.Before(w.acting.began) {
		return // the step began before the purge
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

// visible reports whether every answer of the vault at that time showed the version.
func (v *vault) visible(x *version, at time.Time) bool { return v.propagated(x.landed, at) }

// shows reports whether every answer of the vault at that time showed the version, or
// showed that its key is soft-deleted.
func (v *vault) shows(name, id string, at time.Time) bool {
	x := v.byID(name, id)
	return x != nil && v.visible(x, at) && v.propagated(v.content(name).past.last(), at)
}

// propagated reports whether every answer of the vault at that time showed what was done earlier.
func (v *vault) propagated(done, at time.Time) bool {
	if v.Kind == key.ManagedHSM {
		done = done.Add(replication)
	}
	return done.Before(at)
}

// judgeLanding fails if keyd makes a second time what the vault already has.
func (w *World) judgeLanding(v *vault, name string, x *version) {
	rec := w.store.records[name]
	if v.landed[x.attempt] {
		w.violate("doubled: the PUT of attempt %s of %s into %s was sent a second time", x.attempt, name, v.Name)
	}
	v.landed[x.attempt] = true
	_, p := placementOf(&rec, x.attempt)
	if p == nil {
		x.late = true // the record has been lost since
		return
	}
	if x.late = p.State != key.Intended; x.late {
		if !w.landsLate(intent{chain.ImportIntended, x.attempt, v.URL}) {
			w.result.Late++ // else it was counted before
		}
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
		if before == nil { // a restored record may have it as an alias
			_, before = holderOf(&rec, v.URL, y.ID)
		}
		last := i == len(versions)-2
		switch {
		case y.late && !v.visible(y, began):
		case p.Cause == key.CauseRollback && before != nil && before.Version != y.ID:
			// An alias was never proven, and keyd proves what it puts back.
		case p.Cause == key.CauseRepair || p.Cause == key.CauseRollback:
			if last && v.visible(y, began) {
				w.violate(
					"doubled: %s in %s: the %s imports what is the newest version there already",
					name,
					v.Name,
					p.Cause,
				)
			}
		case before != nil && slices.Contains(givenUpStates, before.State):
		default:
			w.violate(
				"doubled: %s in %s: version %s, which is there already, has the material of the new version %s",
				name,
				v.Name,
				y.ID[:6],
				x.ID[:6],
			)
		}
	}
}

// judgeDisable fails if keyd disables the newest material, or an older version while
// the newest is of no use. The retire rule that was configured when the step began must
// allow it, by true time.
func (w *World) judgeDisable(v *vault, name string, x *version) {
	rec := w.store.records[name]
	g, p := holderOf(&rec, v.URL, x.ID)
	if p != nil {
		w.judgeInTime(intent{chain.DisableIntended, p.Attempt, v.URL}, plan.StepTimeout+time.Minute, // the call is slow
			"the disabling of version "+x.ID)
	}
	if p == nil {
		w.violate(
			"version %s of %s in %s is disabled, and the record does not have it as keyd's own",
			x.ID,
			name,
			v.Name,
		)
	}
	if !w.store.intents[intent{chain.DisableIntended, g.ID, v.URL}] {
		w.violate("version %s of %s in %s is disabled before its intent is in the record", x.ID, name, v.Name)
	}
	if rec.Replacement.Disabling() {
		w.judgeReplaced(v, name, x)
		w.judgeReaders(v, name, x)
		return
	}
	newest := v.newest(name)
	if newest.mat == x.mat && v.visible(newest, w.acting.began) {
		w.violate("the newest material of %s in %s is disabled", name, v.Name)
	}
	if !newest.Enabled && v.propagated(newest.past.last(), w.acting.began) {
		w.violate("version %s of %s in %s is disabled although the newest is disabled, too", x.ID, name, v.Name)
	}
	const tolerance = 10 * time.Minute // of the daemon's clock
	if e := newest.Expires; !e.IsZero() && e.Add(tolerance).Before(w.acting.began) &&
		v.visible(newest, w.acting.began) {
		w.violate("version %s of %s in %s is disabled although the newest has expired", x.ID, name, v.Name)
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
		w.violate("version %s of %s in %s is disabled, and no retire rule asks for it", x.ID, name, v.Name)
	}
	w.judgeReaders(v, name, x)
	w.judgeRetiring(v, name, g, x)
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

// succeeded reports whether the record says that a later generation is active in the
// vault, and it really works there.
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

// holderOf is the placement that has a version as its own or as an alias.
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

// givenUpStates are the states of a placement in which keyd may import the same material once more: the version is of
// no use, or an operator has let keyd try again.
var givenUpStates = []key.PlacementState{key.Refuted, key.Lifted, key.Void}
