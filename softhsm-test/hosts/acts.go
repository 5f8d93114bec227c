package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/status"
)

// act is what a leader does besides rotating. It is killed at each boundary of that, too, and another host finishes it.
type act struct {
	points []string
	sample string // the point at which CI kills it, too; "": none

	prepare func(*world) error // up to where the act can begin
	begin   func(*world) error // has the leader begin it
	repeat  func(*world) error // what an operator does whose command died with the leader; nil: no command did
	undone  missing
	after   func(*world) error // leaves a world in which the next act can begin; nil: this is one

	result chain.Event
	of     string // the field of the result that names what it happened to; "": it happens to one thing alone
	// once says which calls have Azure do it, if a second one would do it again. A version can be disabled twice.
	once func(emulator.RequestLog) bool

	unsure []string // the points after which nobody knows whether Azure was asked, and it was not
	waits  func(status.Snapshot) bool
	settle time.Duration      // how long the next leader then waits
	again  func(*world) error // what an operator must do after that; nil: nothing
}

// missing says what an act has not done yet, by what the leader and Azure show; "": it is done.
type missing func(*world, status.Snapshot) string

func acts() []act {
	return []act{disabling, enabling, makingKEK, usingKEK, disablingKEK, moving, promoting, reserving, discarding,
		destroying, beginning, consenting, replacing}
}

func (a act) stories() (all []story) {
	for _, point := range a.points {
		tell := func(w *world) error { return w.killedIn(a, point) }
		all = append(all, story{name: "the leader is killed at " + point, sample: point == a.sample, tell: tell})
	}
	return all
}

// killedIn kills the leader in an act. Another host finishes it, and it has happened once.
func (w *world) killedIn(a act, point string) error {
	if err := a.prepare(w); err != nil {
		return err
	}
	began, err := w.moment()
	if err != nil {
		return err
	}
	if err := errors.Join(w.arm(point), a.begin(w)); err != nil {
		return err
	}
	l, err := w.struck(point, (*host).killed)
	if err != nil {
		return err
	}
	if _, err := w.awaitLeader(l); err != nil {
		return err
	}
	if a.repeat != nil {
		if err := a.repeat(w); err != nil {
			return err
		}
	}
	if slices.Contains(a.unsure, point) {
		if err := w.waitOut(a, began); err != nil {
			return err
		}
	}
	if err := errors.Join(w.await(string(a.result), a.undone), w.happenedOnce(a, began)); err != nil || a.after == nil {
		return err
	}
	return a.after(w)
}

// waitOut requires that the next leader waits as long as what its predecessor may have asked for can still happen.
func (w *world) waitOut(a act, began moment) error {
	if err := w.await("the leader waits", func(_ *world, s status.Snapshot) string {
		if !a.waits(s) {
			return "it does not show it"
		}
		return ""
	}); err != nil {
		return err
	}
	if done := w.done(a, began); len(done) > 0 {
		return fmt.Errorf("a call was sent before the wait was over: %v", done)
	}
	if err := w.pass(a.settle); err != nil || a.again == nil {
		return err
	}
	return a.again(w)
}

// await waits until nothing is missing by what the leader shows.
func (w *world) await(what string, undone missing) error {
	why := "no host leads"
	err := w.eventually(what, func() bool {
		if l, s := w.leader(); l != nil {
			why = undone(w, s)
			return why == ""
		}
		return false
	})
	if err != nil {
		err = fmt.Errorf("%w: %s", err, why)
	}
	return err
}

// moment is a place in the audit chain and among the calls to Azure.
type moment struct{ entry, call uint64 }

func (w *world) moment() (m moment, err error) {
	_, m.call = w.azure.RequestsSince(w.seen)
	err = w.told(0, func(e control.AuditEntry) { m.entry = e.Seq })
	return m, err
}

// told has the leader tell each entry of the chain after a number.
func (w *world) told(after uint64, each func(control.AuditEntry)) error {
	l, err := w.awaitLeader()
	if err != nil {
		return err
	}
	return l.client().Audit(w.ctx, after+1, "", func(e control.AuditEntry) error {
		each(e)
		return nil
	})
}

// happenedOnce requires that the act happened once, by the audit chain and by what Azure did.
func (w *world) happenedOnce(a act, began moment) error {
	var results []control.AuditEntry
	if err := w.eventually(fmt.Sprintf("the audit chain tells %q", a.result), func() bool {
		results = nil
		err := w.told(began.entry, func(e control.AuditEntry) {
			if e.Event == a.result {
				results = append(results, e)
			}
		})
		return err == nil && len(results) > 0
	}); err != nil {
		return err
	}
	return a.happenedOnce(results, w.done(a, began))
}

// done lists what Azure has done for the act, if it must do it once.
func (w *world) done(a act, began moment) []emulator.RequestLog {
	calls, _ := w.azure.RequestsSince(began.call)
	return slices.DeleteFunc(calls, func(c emulator.RequestLog) bool {
		return a.once == nil || !a.once(c) || c.Done/100 != 2
	})
}

// happenedOnce says what is wrong if the act did not happen once to whatever it happened to.
func (a act) happenedOnce(results []control.AuditEntry, done []emulator.RequestLog) (err error) {
	if len(results) == 0 || len(done) == 0 && a.once != nil {
		err = fmt.Errorf("the audit chain tells %q %d times, and Azure did it %d times", a.result, len(results),
			len(done))
	}
	counts := map[string]int{}
	for _, e := range results {
		counts[fmt.Sprintf("the audit chain tells %q %s", a.result, e.Fields[a.of])]++
	}
	for _, c := range done {
		counts["Azure did "+c.Method+" "+c.Host+c.Path]++
	}
	for what, n := range counts {
		if n != 1 {
			err = errors.Join(err, fmt.Errorf("%s %d times, not once", what, n))
		}
	}
	return err
}
