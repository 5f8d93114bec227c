package simulate

import (
	"slices"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// These judges look for what keyd makes and nothing needs, and for what it leaves out.

// judgeAbandoned fails if keyd gives up the one whole pair that the record asked for, and
// makes another.
func (w *World) judgeAbandoned(was *record.Record, entries []chain.Entry) {
	e := entries[0]
	if e.Event != chain.IDAbandoned {
		return
	}
	o := w.hsm.find(key.ID(e.Fields["id"]))
	made := slices.Concat(was.Generations, was.Spares)
	begun := slices.ContainsFunc(made, func(g record.Generation) bool {
		return string(g.ID) == e.Fields["id"] && !g.GenerateBegun.IsZero()
	})
	if o != nil && begun && !o.half && o.made.Before(w.acting.began) {
		w.violate("doubled: the whole pair of %s under %s is given up, and another is made", was.Key, o.id)
	}
}

// judgeOrder fails unless a vault gets every generation that it may have, the oldest first.
func (w *World) judgeOrder(was, is *record.Record) {
	for i := range is.Generations {
		g := &is.Generations[i]
		for _, p := range g.Placements {
			rotation := p.Cause == key.CauseRotation || p.Cause == key.CauseNewVault
			if _, known := placementOf(was, p.Attempt); known != nil || p.State != key.Intended || !rotation {
				continue
			}
			w.judgeLeftOut(was, g.Number, &p)
		}
	}
}

// judgeLeftOut fails if keyd passes over a generation between the last one in the vault and the next one.
func (w *World) judgeLeftOut(was *record.Record, number int, p *record.Placement) {
	highest := 0
	for i := range was.Generations {
		if g := &was.Generations[i]; g.In(p.Vault) != nil {
			highest = g.Number
		}
	}
	for i := range was.Generations {
		g := &was.Generations[i]
		if g.Number > highest && g.Number < number && g.Usable() && g.State() != key.Suspended &&
			!g.Finished.IsZero() {
			w.violate(
				"generation %d of %s goes to %s, and generation %d is left out",
				number,
				was.Key,
				p.VaultName,
				g.Number,
			)
		}
	}
}
