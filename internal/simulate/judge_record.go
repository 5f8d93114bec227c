package simulate

import (
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// These judges look at what keyd records: it must forget nothing that it knew, and record
// nothing that is not true.

func (w *World) judgeChange(was, is record.Record, entries []chain.Entry) {
	event := entries[0].Event
	for i := range was.Generations {
		w.judgeGeneration(&was.Generations[i], &is, entries)
	}
	k := w.managed(is.Key)
	for i := range is.Generations {
		g := &is.Generations[i]
		if was.Generation(g.Number) == nil {
			spare := was.Spare(g.Number)
			if o := w.hsm.pair(g.ID); g.Number <= k.highest && spare == nil &&
				(event != chain.Adopted || o == nil || o.label.Number != g.Number) {
				w.violate("generation number %d of %s is used a second time", g.Number, is.Key)
			}
			k.highest = max(k.highest, g.Number)
			if event == chain.SparePromoted && spare == nil {
				w.violate("generation %d of %s is promoted, and was no spare", g.Number, is.Key)
			}
			if event == chain.GenerationReserved || event == chain.SparePromoted {
				w.result.Reserved++
				w.judgeReserve(&was, g)
			} else if event != chain.Adopted {
				w.violate("generation %d of %s appears in the record after %q", g.Number, is.Key, event)
			}
			for j := range g.Placements {
				w.judgePlacement(is.Key, g, nil, &g.Placements[j], entries)
			}
		}
		if g.Fingerprint != "" {
			w.judgePin(is.Key, g)
		}
	}
	w.judgeSpares(&was, &is, entries)
	w.judgeAbandoned(&was, entries)
	w.judgeOrder(&was, &is)
	w.judgeConsent(&was, &is, entries)
	for _, q := range was.Requests {
		w.judgeRequest(q, &is, event)
	}
	answered := event == chain.RotationRequested && was.Hold != nil &&
		was.Hold.Code == key.HoldRefuted // by a compromise
	if was.Hold != nil && is.Hold == nil && event != chain.KeyResumed && event != chain.Adopted && !answered {
		w.violate("the hold of %s is gone after %q", is.Key, event)
	}
	for url, known := range was.Known {
		for _, id := range known {
			if !slices.Contains(is.Known[url], id) {
				w.violate("the consent to version %s is gone after %q", id, event)
			}
		}
	}
	if is.Hold != nil && was.Hold == nil && is.Hold.Code == key.HoldRefuted {
		w.judgeRollback(&is)
	}
	if is.Hold != nil && was.Hold == nil && is.Hold.Code == key.HoldVersionsMissing {
		w.judgeMissing(&is)
	}
}

// judgeMissing fails if the key is held for missing versions and none is missing.
func (w *World) judgeMissing(rec *record.Record) {
	v := w.vault(rec.Hold.Vault)
	if c := v.content(rec.Key); c.deleted || !v.propagated(c.past.last(), w.acting.began) {
		return
	}
	for _, g := range rec.Generations {
		for _, p := range g.Placements {
			if p.Vault != v.URL || p.Version == "" || p.State == key.Void {
				continue
			}
			if x := v.byID(rec.Key, p.Version); x == nil || !v.visible(x, w.acting.began) {
				return
			}
		}
	}
	w.violate("%s is held for versions that are missing in %s, and none is missing", rec.Key, v.Name)
}

// judgeGeneration compares one generation with the record before.
func (w *World) judgeGeneration(was *record.Generation, rec *record.Record, entries []chain.Entry) {
	event := entries[0].Event
	is := rec.Generation(was.Number)
	switch {
	case is == nil:
		w.violate("generation %d of %s is gone from the record after %q", was.Number, rec.Key, event)
	case was.Fingerprint != "" && (is.Fingerprint != was.Fingerprint || is.ID != was.ID):
		w.violate("generation %d of %s has another pair than the one pinned after %q", was.Number, rec.Key, event)
	case is.ID != was.ID && !slices.ContainsFunc(rec.Abandoned,
		func(a record.AbandonedID) bool { return a.ID == was.ID }):
		w.violate("the id %s of generation %d of %s is forgotten after %q", was.ID, was.Number, rec.Key, event)
	case !is.Reserved.Equal(was.Reserved) && event != chain.Adopted:
		w.violate("the time of reservation of generation %d of %s has changed after %q", was.Number, rec.Key, event)
	case is.ID == was.ID && !was.GenerateBegun.IsZero() && is.GenerateBegun.IsZero():
		w.violate("the record forgets that generation %d of %s was begun, after %q", was.Number, rec.Key, event)
	case !was.Compromised.IsZero() && is.Compromised.IsZero(), !was.Discarded.IsZero() && is.Discarded.IsZero():
		w.violate("the record forgets that generation %d of %s may not be used, after %q", was.Number, rec.Key, event)
	}
	for i := range was.Placements {
		j := slices.IndexFunc(
			is.Placements,
			func(p record.Placement) bool { return p.Attempt == was.Placements[i].Attempt },
		)
		if j < 0 {
			w.violate(
				"the attempt %s of generation %d of %s is forgotten after %q",
				was.Placements[i].Attempt,
				was.Number,
				rec.Key,
				event,
			)
		}
	}
	for i := range is.Placements {
		p := &is.Placements[i]
		var before *record.Placement
		if j := slices.IndexFunc(was.Placements,
			func(q record.Placement) bool { return q.Attempt == p.Attempt }); j >= 0 {
			before = &was.Placements[j]
		}
		w.judgePlacement(rec.Key, is, before, p, entries)
	}
}

// judgePlacement compares what the record says of a placement with the truth.
func (w *World) judgePlacement(name string, g *record.Generation, was, is *record.Placement, entries []chain.Entry) {
	event := entries[0].Event
	w.judgeAlias(name, was, is, entries)
	if was != nil && was.State == is.State && was.Version == is.Version {
		return
	}
	a := w.managed(name).attempt(is.Attempt)
	if is.Version != "" && (was == nil || was.Version != is.Version) {
		w.judgeVersion(name, is)
	}
	switch is.State {
	case key.Intended:
		if was != nil {
			w.violate("the placement %s of %s is open again after %q", is.Attempt, name, event)
		}
		a.intended, a.looked, a.turned = w.now.Add(is.At.Sub(w.acting.clock())), w.acting.began, w.acting.turned()
	case key.Void:
		if event != chain.Adopted {
			w.judgeVoid(name, is, a)
		} else if v := w.vault(is.Vault); v.shows(name, is.Version, w.acting.began) {
			w.violate("version %s of %s is given up as gone, and %s has it", is.Version, name, is.VaultName)
		}
	case key.Proven:
		if was != nil && was.State == key.Superseded {
			return
		}
		x := w.vault(is.Vault).byID(name, is.Version)
		if x == nil || x.mat.print != g.Fingerprint || x.modulus.print != g.Fingerprint || !x.unwrapped {
			w.violate(
				"the placement of generation %d of %s in %s is active, and was not proven",
				g.Number,
				name,
				is.VaultName,
			)
		}
		w.judgeOpened(name, g, is, x)
	case key.Imported:
		if w.vault(is.Vault).byID(name, is.Version) == nil {
			w.violate("the record has version %s of %s, and %s does not", is.Version, name, is.VaultName)
		}
	case key.Disabled:
		for _, id := range is.Versions() {
			if was != nil && slices.Contains(was.DisabledVersions, id) {
				continue // it was disabled earlier: whoever enabled it since is not this step
			}
			if x := w.vault(is.Vault).byID(name, id); x != nil && x.Enabled {
				w.violate("version %s of %s in %s is recorded as disabled, and is not", id, name, is.VaultName)
			}
		}
	}
}

// judgeOpened fails unless the HSM has opened, in this very step, what the vault wrapped.
// It does not apply to keys that only sign, nor where the vault may refuse to wrap.
func (w *World) judgeOpened(name string, g *record.Generation, p *record.Placement, x *version) {
	ops := p.Operations
	if len(ops) == 0 {
		ops = w.acting.under.Operations
	}
	pair, _ := key.ProofPair(ops)
	o := w.hsm.pair(g.ID)
	if pair[0] == key.Sign || !g.LostInHSM.IsZero() || !x.Expires.IsZero() || o == nil {
		return
	}
	if o.opened.Before(w.acting.began) {
		w.violate(
			"the placement of generation %d of %s in %s is active, and the HSM opened nothing",
			g.Number,
			name,
			p.VaultName,
		)
	}
}

// judgeVersion fails unless the record has the time at which the vault says it made the version.
func (w *World) judgeVersion(name string, p *record.Placement) {
	if x := w.vault(p.Vault).byID(name, p.Version); x != nil && !x.Created.Equal(p.Created) {
		w.violate(
			"version %s of %s in %s was made at %s, and the record says %s",
			p.Version,
			name,
			p.VaultName,
			x.Created.Format(time.DateTime),
			p.Created.Format(time.DateTime),
		)
	}
}

// judgeVoid fails unless it is certain that the import did not happen. A clock that
// jumped is no excuse, because the vault has one, too. A clock that somebody set during
// the very step that reads both is one.
func (w *World) judgeVoid(name string, p *record.Placement, a *attempt) {
	if a.refused {
		return
	}
	v := w.vault(p.Vault)
	excused := a.turned || w.acting.turned()
	for _, x := range v.content(name).versions {
		if x.attempt == p.Attempt && v.shows(name, x.ID, w.acting.began) && !excused && w.recognised(v, name, x) {
			w.violate("the import %s of %s into %s happened, and keyd says that it did not", p.Attempt, name, v.Name)
		}
		x.late = x.late || x.attempt == p.Attempt
	}
	const timeout = 55 * time.Second // a PUT's, with a tolerance
	if !a.sent.IsZero() && w.now.Sub(a.intended) < v.Kind.SettleTime()+timeout && !excused {
		w.violate(
			"the import %s of %s into %s is given up %s after it was intended, before its settle time was over",
			p.Attempt,
			name,
			v.Name,
			w.now.Sub(a.intended),
		)
	}
}

// recognised reports whether keyd can recognise a version as its own, by modulus or tag,
// and nobody has declared it foreign. It cannot if the version was damaged on its way and
// its tags were changed.
func (w *World) recognised(v *vault, name string, x *version) bool {
	ours := w.hsm.made[x.modulus.print] != nil || x.Tags[key.TagAttempt] == string(x.attempt)
	return ours && !slices.Contains(w.store.records[name].Known[v.URL], x.ID)
}

// judgePin fails unless the pinned pair is the one that the HSM made under that id.
func (w *World) judgePin(name string, g *record.Generation) {
	if w.hsm.pinned[g.ID] {
		return
	}
	o := w.hsm.made[g.Fingerprint]
	if o == nil || o.id != g.ID {
		w.violate("generation %d of %s is pinned to a pair that the HSM did not make under %s", g.Number, name, g.ID)
	}
	w.hsm.pinned[g.ID] = true
}

// judgeRequest fails if a request disappears before a rotation has answered it.
func (w *World) judgeRequest(q key.Request, is *record.Record, event chain.Event) {
	if slices.ContainsFunc(is.Requests, func(r key.Request) bool { return r.ID == q.ID }) {
		return
	}
	for _, g := range is.Generations {
		if slices.Contains(g.Requests, q.ID) && !g.Finished.IsZero() {
			if q.Compromise && g.Number < w.managed(is.Key).compromise[q.ID] {
				w.violate(
					"the compromise %s of %s is answered by generation %d, which was there before",
					q.ID,
					is.Key,
					g.Number,
				)
			}
			return
		}
	}
	w.violate("the request %s for a rotation of %s disappeared after %q", q.ID, is.Key, event)
}

// judgeRollback fails if the key is held for a refuted version that is still the newest,
// and there was a good generation to go back to.
func (w *World) judgeRollback(rec *record.Record) {
	v := w.vault(rec.Hold.Vault)
	newest := v.newest(rec.Key)
	if newest == nil {
		return
	}
	g, p := holderOf(rec, v.URL, newest.ID)
	if p == nil || p.State != key.Refuted {
		return
	}
	if p.Cause == key.CauseRollback {
		return // what keyd put back was refuted, too, and a late one of its kind
	}
	if last := lastIn(rec, v.URL); last.State == key.Refuted && last.Cause == key.CauseRollback {
		return // what keyd put back was refuted, too, and the newest may have landed since
	}
	for i := range rec.Generations {
		before := &rec.Generations[i]
		if before.Number < g.Number && before.Usable() &&
			slices.ContainsFunc(
				before.Placements,
				func(q record.Placement) bool { return q.Vault == v.URL && q.Good() },
			) {
			w.violate(
				"%s is held with the refuted generation %d as the newest in %s, and generation %d could have "+
					"been put back",
				rec.Key,
				g.Number,
				v.Name,
				before.Number,
			)
		}
	}
}

// lastIn is what was placed last in a vault.
func lastIn(rec *record.Record, url string) (last record.Placement) {
	for _, g := range rec.Generations {
		for _, p := range g.Placements {
			if p.Vault == url && p.State != key.Void && p.Seq > last.Seq {
				last = p
			}
		}
	}
	return last
}

func (v *vault) byID(name, id string) *version {
	for _, x := range v.content(name).versions {
		if x.ID == id {
			return x
		}
	}
	return nil
}
