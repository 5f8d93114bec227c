package simulate

import (
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// judgeNow judges a key after every step: it fails unless what must always hold does.
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

// judgeStanding fails if a version of keyd's in the vault is disabled, and neither a meddler
// nor the retire rule did it; if the retire rule disabled the newest; if more than one
// placement is active, or more than one import is open.
func (w *World) judgeStanding(v *vault, rec *record.Record) {
	versions := v.content(rec.Key).versions
	for i, x := range versions {
		switch {
		case x.foreign:
		case !x.Enabled && !x.meddled && !x.retired:
			w.violate("lost: version %s of %s in %s is disabled, and nobody did it", x.ID, rec.Key, v.Name)
		case x.retired && i == len(versions)-1 && !w.managed(rec.Key).replacing.out:
			w.violate("the retire rule has disabled the newest version %s of %s in %s", x.ID, rec.Key, v.Name)
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

// putOff notes that the vault refused a look for now.
func (v *vault) putOff(err error) {
	if d := v.w.acting; err != nil && key.ClassOf(err) == key.Retry {
		v.refused[d] = v.w.now
	}
}

// judgePatience fails if a daemon looks at a vault, for any key, within ten seconds after
// the vault refused it a look.
func (v *vault) judgePatience() {
	const pause = 10 * time.Second
	d := v.w.acting
	at, refused := v.refused[d]
	if !refused || !d.clockSet.Before(at) {
		return
	}
	if since := v.w.now.Sub(at); since < pause {
		v.w.violate("%s looks at %s again %s after it was refused a look", d.name, v.Name, since)
	}
}
