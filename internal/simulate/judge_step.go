package simulate

import (
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// judgeNow is what can be judged of a key after every step, whatever is under way:
// what must hold at any moment.
func (w *World) judgeNow(k *managed) {
	rec, ok := w.store.records[k.policy.Key]
	if !ok {
		return
	}
	for _, g := range rec.Generations {
		if g.Fingerprint != "" && g.LostInHSM.IsZero() && w.hsm.pair(g.ID) == nil {
			w.violate(
				"lost: the pair of generation %d of %s is not in the HSM, and nobody took it away",
				g.Number,
				rec.Key,
			)
		}
	}
	for _, s := range rec.Spares {
		if s.Fingerprint != "" && w.hsm.pair(s.ID) == nil && !w.destroyedBefore(s.ID) {
			w.violate(
				"lost: the pair of spare generation %d of %s is not in the HSM, and nobody took it away",
				s.Number,
				rec.Key,
			)
		}
	}
	for _, v := range w.vaults {
		w.judgeStanding(v, &rec)
	}
}

// judgeStanding: in one vault nothing of keyd's is disabled but by a meddler or the
// retire rule, and never the newest by that; one placement is active at most, and one
// import open at most.
func (w *World) judgeStanding(v *vault, rec *record.Record) {
	versions := v.content(rec.Key).versions
	for i, x := range versions {
		switch {
		case x.foreign:
		case !x.Enabled && !x.meddled && !x.retired:
			w.violate("lost: version %s of %s in %s is disabled, and nobody did it", x.ID, rec.Key, v.Name)
		case x.retired && i == len(versions)-1:
			w.violate("the newest version %s of %s in %s is retired", x.ID, rec.Key, v.Name)
		}
	}
	active, open := 0, 0
	for i := range rec.Generations {
		g := &rec.Generations[i]
		for j := range g.Placements {
			switch p := &g.Placements[j]; {
			case p.Vault != v.URL:
			case p.State == key.Proven:
				active++
			case p.State == key.Intended && g.Compromised.IsZero():
				open++
			}
		}
	}
	if active > 1 {
		w.violate("%d placements of %s are active in %s", active, rec.Key, v.Name)
	}
	if open > 1 {
		w.violate("%d imports of %s into %s are open", open, rec.Key, v.Name)
	}
}

// putOff notes that a look was refused for now.
func (v *vault) putOff(err error) {
	if d := v.w.acting; err != nil && key.ClassOf(err) == key.Retry {
		v.refused[d] = v.w.now
	}
}

// judgePatience: a vault that put a daemon off at a look is not looked at again by it
// for ten seconds, for any key.
func (v *vault) judgePatience() {
	const pause = 10 * time.Second
	d := v.w.acting
	at, refused := v.refused[d]
	if !refused || !d.clockSet.Before(at) {
		return
	}
	if since := v.w.now.Sub(at); since < pause {
		v.w.violate("%s put %s off, and is looked at again after %s", v.Name, d.name, since)
	}
}
