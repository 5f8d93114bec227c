package simulate

import (
	"slices"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// spare is what the judges remember of a pair that was reserved as a spare, by its CKA_ID.
type spare struct {
	promoted    bool // by an entry of the audit
	discarded   bool
	compromised bool // the key's material was called compromised meanwhile
	destroyed   bool
}

func (w *World) spare(id key.ID) *spare {
	if w.spares[id] == nil {
		w.spares[id] = &spare{}
	}
	return w.spares[id]
}

// judgeSpares: no spare comes or goes but by an entry that says so, and no pair has two uses.
func (w *World) judgeSpares(was, is *record.Record, entries []chain.Entry) {
	event := entries[0].Event
	for i := range was.Spares {
		w.judgeSpare(was, &was.Spares[i], is, entries)
	}
	k := w.managed(is.Key)
	for i := range is.Spares {
		s := &is.Spares[i]
		if s.Fingerprint != "" {
			w.judgePin(is.Key, s)
		}
		w.spare(s.ID)
		if was.Spare(s.Number) != nil {
			continue
		}
		if event != chain.SpareReserved || s.Number <= k.highest {
			w.violate("spare generation %d of %s comes out of %q", s.Number, is.Key, event)
		}
		if most := w.acting.under.Spares; len(is.Spares) > most {
			w.violate(
				"spare generation %d of %s is reserved, and the configuration asks for %d",
				s.Number,
				is.Key,
				most,
			)
		}
		k.highest = s.Number
	}
	uses := map[key.ID]int{}
	for _, list := range [][]record.Generation{is.Generations, is.Spares} {
		for _, g := range list {
			uses[g.ID]++
		}
	}
	for _, a := range is.Abandoned {
		uses[a.ID]++
	}
	for id, n := range uses {
		if n > 1 {
			w.violate("the pair under %s of %s has %d uses after %q", id, is.Key, n, event)
		}
	}
}

// judgeSpare: a spare stays what it is, becomes the generation of its number by a promotion, or is given up for good.
func (w *World) judgeSpare(was *record.Record, s *record.Generation, is *record.Record, entries []chain.Entry) {
	event := entries[0].Event
	compromise := event == chain.RotationRequested && entries[0].Fields["compromise"] == "true" &&
		entries[0].Fields["joined"] == "false"
	truth := w.spare(s.ID)
	truth.compromised = truth.compromised || compromise
	said := slices.ContainsFunc(entries, func(e chain.Entry) bool {
		return e.Event == chain.SpareDiscarded && e.Fields["id"] == string(s.ID)
	})
	truth.discarded = truth.discarded || said
	now, g := is.Spare(s.Number), is.Generation(s.Number)
	switch {
	case now != nil && now.ID != s.ID && (s.Fingerprint != "" || !is.GaveUp(s.ID)):
		w.violate("spare generation %d of %s has another pair after %q", s.Number, is.Key, event)
	case now != nil && s.Fingerprint != "" && now.Fingerprint != s.Fingerprint:
		w.violate("spare generation %d of %s has another pair than the one pinned after %q", s.Number, is.Key, event)
	case now != nil:
	case g != nil && g.ID == s.ID && g.Fingerprint == s.Fingerprint && event == chain.SparePromoted:
		truth.promoted = true
	case g != nil && event == chain.Adopted:
		truth.promoted, truth.discarded = true, false // it was in use, and the record was an old copy
	case is.GaveUp(s.ID) && (said || event == chain.Adopted):
		truth.discarded = true
	default:
		w.violate("spare generation %d of %s is gone from the record after %q", s.Number, was.Key, event)
	}
}

// judgeSpareUse: what was ever a spare is placed only after its promotion, and never once it was discarded, or was a
// spare when the key's material was called compromised.
func (w *World) judgeSpareUse(name string, id key.ID) {
	s, ok := w.spares[id]
	switch {
	case !ok:
	case s.compromised:
		w.violate("the spare under %s of %s is placed, and the key was called compromised while it was one", id, name)
	case s.discarded:
		w.violate("the spare under %s of %s is placed, and it was discarded", id, name)
	case !s.promoted:
		w.violate("the spare under %s of %s is placed without a promotion in the audit", id, name)
	}
}

// judgeSpareDestroyed: the pair of a spare is destroyed only once it was discarded, and while no vault has it.
func (w *World) judgeSpareDestroyed(id key.ID) {
	s := w.spares[id]
	if s == nil || !s.discarded {
		w.violate("the pinned pair under %s is destroyed", id)
	}
	s.destroyed = true
	o := w.hsm.find(id)
	for _, v := range w.vaults {
		for name := range v.keys {
			if o != nil &&
				slices.ContainsFunc(v.content(name).versions, func(x *version) bool { return x.mat == o.mat }) {
				w.violate("the pair under %s is destroyed, and %s has it", id, v.Name)
			}
		}
	}
}

// judgeSparesEnd: in the end a key has the spares that its policy asks for, and the HSM no pair that is neither one nor
// a generation's.
func (w *World) judgeSparesEnd(k *managed, rec *record.Record) {
	if ready := rec.SparesReady(k.policy); ready != k.policy.Spares || len(rec.Spares) != ready {
		w.violate("%s has %d spares in the end, %d of them ready, and the configuration asks for %d", rec.Key,
			len(rec.Spares), ready, k.policy.Spares)
	}
	for _, o := range w.hsm.objects {
		if o.label.Key == rec.Key && rec.WithID(o.id) == nil && rec.SpareWithID(o.id) == nil {
			w.violate("the HSM still has %s under %s, which is neither a generation's nor a spare's", o.label, o.id)
		}
	}
}

// restoreSpares takes from the judges what a copy of the state does not know.
func (w *World) restoreSpares(was, is *record.Record) {
	for i := range is.Spares {
		s := &is.Spares[i]
		if s.GenerateBegun.IsZero() && w.hsm.pair(s.ID) == nil {
			delete(w.hsm.generated, s.ID)
		}
		w.spares[s.ID] = &spare{destroyed: w.spare(s.ID).destroyed}
	}
	for i := range is.Generations {
		// It was promoted by then, or found by an adoption; what came later is lost.
		if s := w.spares[is.Generations[i].ID]; s != nil {
			*s = spare{promoted: true, destroyed: s.destroyed}
		}
	}
	var lost []key.ID
	for _, s := range was.Spares {
		lost = append(lost, s.ID)
	}
	for _, a := range was.Abandoned {
		lost = append(lost, a.ID)
	}
	for _, id := range lost {
		if o := w.hsm.pair(id); o != nil && !o.wrapped && is.WithID(id) == nil && is.SpareWithID(id) == nil &&
			!is.GaveUp(id) {
			delete(w.hsm.pinned, id)
		}
	}
}

// destroyedBefore reports whether keyd itself destroyed the pair, which a copy of the state calls a spare again.
func (w *World) destroyedBefore(id key.ID) bool { return w.spares[id] != nil && w.spares[id].destroyed }
