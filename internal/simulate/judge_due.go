package simulate

import (
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// clocksDiffer is how far a daemon's clock may be off before the daemon notices. It
// tolerates five minutes from a vault's clock, which itself is off by half a minute.
const clocksDiffer = 6 * time.Minute

// judgeReserve fails unless there is a reason for a new generation: a pending request, a
// key without any generation, or a firing of the schedule since the last rotation. It
// also fails if another generation is under way. One that is disabled in every vault is
// not.
func (w *World) judgeReserve(was *record.Record, g *record.Generation) {
	w.judgeReserved(was.Key, g)
	last := was.Latest()
	stuck := last != nil && last.State() == key.Suspended
	if last != nil && !stuck && last.Finished.IsZero() && last.Compromised.IsZero() && last.LostInHSM.IsZero() {
		w.violate(
			"doubled: generation %d of %s is reserved while generation %d is under way",
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

// judgeReserved fails unless the recorded time of the reservation, from which the schedule
// counts, is when the daemon made it, by its own clock.
func (w *World) judgeReserved(name string, g *record.Generation) {
	d := w.acting
	if d.turned() {
		return
	}
	if g.Reserved.Before(d.began.Add(d.offset)) || g.Reserved.After(d.clock()) {
		w.violate(
			"the record says that generation %d of %s was reserved at %s, and the daemon's clock says %s",
			g.Number,
			name,
			g.Reserved.Format(time.DateTime),
			d.clock().Format(time.DateTime),
		)
	}
}

// turned reports whether somebody set the daemon's clock during the step under way. The
// step then compares a vault's clock with two different local ones.
func (d *daemon) turned() bool { return !d.clockSet.Before(d.began) }
