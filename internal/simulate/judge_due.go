package simulate

import (
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// clocksDiffer is how far a daemon's clock may be from the truth without its seeing
// it: five minutes from a vault's, which is off by half a minute itself.
const clocksDiffer = 6 * time.Minute

// judgeReserve: a new generation has one of the reasons that there are: a pending
// request, a key without any, or a firing of the schedule since the last rotation. And
// none is begun while another is on its way; one that somebody disabled wherever it was
// goes nowhere.
func (w *World) judgeReserve(was *record.Record, g *record.Generation) {
	w.judgeReserved(was.Key, g)
	last := was.Latest()
	stuck := last != nil && last.State() == key.Suspended
	if last != nil && !stuck && last.Finished.IsZero() && last.Compromised.IsZero() && last.LostInHSM.IsZero() {
		w.violate(
			"doubled: generation %d of %s is reserved while generation %d is on its way",
			g.Number,
			was.Key,
			last.Number,
		)
	}
	for _, id := range g.Requests {
		if !slices.ContainsFunc(was.Requests, func(q key.Request) bool { return q.ID == id }) {
			w.violate(
				"doubled: generation %d of %s is reserved for the request %s, which does not exist",
				g.Number,
				was.Key,
				id,
			)
		}
	}
	if last == nil || len(g.Requests) > 0 {
		return
	}
	p := w.acting.under
	if p.Schedule == nil {
		w.violate("doubled: generation %d of %s is reserved, and nothing asks for it", g.Number, was.Key)
	}
	due := p.Schedule.Next(was.LastRotation())
	if floor := was.LastRotation().Add(p.Floor); due.Before(floor) {
		due = floor
	}
	if due.After(w.now.Add(clocksDiffer)) && !w.acting.turned() {
		w.violate(
			"doubled: generation %d of %s is reserved, and the next rotation after the one of %s is due at %s",
			g.Number,
			was.Key,
			was.LastRotation().Format(time.DateTime),
			due.Format(time.DateTime),
		)
	}
}

// judgeReserved: the moment that counts for the schedule is the one at which it was
// written down, by the clock of who wrote it.
func (w *World) judgeReserved(name string, g *record.Generation) {
	d := w.acting
	if d.turned() {
		return
	}
	if g.Reserved.Before(d.began.Add(d.offset)) || g.Reserved.After(d.clock()) {
		w.violate(
			"generation %d of %s is reserved at %s by the record, and the clock says %s",
			g.Number,
			name,
			g.Reserved.Format(time.DateTime),
			d.clock().Format(time.DateTime),
		)
	}
}

// turned reports whether somebody turned the daemon's clock within the step under
// way. Then what it compares with a vault's clock is two different clocks.
func (d *daemon) turned() bool { return !d.clockSet.Before(d.began) }
