package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/control"
)

// story is one fault, told in a world that is well, and that is well again once keyd has done what it must.
type story struct {
	name   string
	on     string // the engine; "": both
	sample bool   // CI tells it, too
	tell   func(*world) error
}

// live tells a story, waits until every rotation is done, and judges.
func (w *world) live(s story) (result, error) {
	if err := s.tell(w); err != nil {
		return result{}, err
	}
	if err := errors.Join(w.calm(), w.settle()); err != nil {
		return result{}, err
	}
	r, err := w.judge()
	r.faults = 1
	return r, err
}

func stories(options) (all []story) {
	for _, p := range killPoints {
		all = append(all, story{name: "the leader is killed at " + p.name, sample: p.sample, tell: killedAt(p.name)})
	}
	for _, a := range acts() {
		all = append(all, a.stories()...)
	}
	return slices.Concat(all, []story{
		{"the leader stands still before it makes a pair", "", false, stoodStill("generate-before", 0)},
		{"the leader stands still before an import", "", false, stoodStill("put-before", 0)},
		{"the leader stands still before an import, for longer than its deadline", "", false,
			stoodStill("put-before", deadline)},
		{"the leader stands still in an import", "", false, stoodStillInImport},
		{"the leader stands still after an import", "", true, stoodStill("import-after", 0)},
		{"the leader is cut off from the store", "", true, cutOff(storeLAN)},
		{"the leader is cut off from Azure", "", false, cutOff(azureLAN)},
		{"the leader's clock is an hour ahead", "", false, anHour(time.Hour)},
		{"the leader's clock is an hour behind", "", false, anHour(-time.Hour)},
		{"the store is stopped", "", false, stopped},
		{"the store is slow", "", false, slowStore},
		{"the store takes no writes", "", true, during(engine.refuse, engine.take)},
		{"the store is full", "", false, during(engine.fill, engine.empty)},
		{"the store fails over", "", true, failsOver},
		{"every host restarts, one after the other", "", false, rolling},
		{"the leader of many keys is killed", "", false, takesOver},
		{"many keys rotate while the store fails over twice", "", true, many},
	}, postgresStories)
}

// killPoints are the boundaries of a rotation. At some of them a successor must wait until the vault is certain to have
// done what it was asked, or not.
var killPoints = []struct {
	name   string
	sample bool
}{
	{"save-after generation reserved", false},
	{"save-before generation intended", false},
	{"save-after generation intended", false},
	{"generate-before", false},
	{"generate-after", true},
	{"save-after generation made", false},
	{"save-after generation pinned", false},
	{"save-before import intended", false},
	{"save-after import intended", false},
	{"import-before", false},
	{"put-before", false},
	{"import-after", true},
	{"save-after imported", false},
	{"prove-after", false},
	{"save-after proof passed", false},
	{"save-after import intended:2", false},
	{"put-before:2", false},
	{"import-after:2", false},
	{"save-before rotation finished", true},
	{"save-after rotation finished", false},
}

// killedAt kills the leader during a rotation. Another host finishes it.
func killedAt(point string) func(*world) error {
	return func(w *world) error {
		if err := errors.Join(w.arm(point), w.rotate(w.next())); err != nil {
			return err
		}
		l, err := w.struck(point, func(h *host) bool { return !h.runs() })
		if err == nil {
			_, err = w.awaitLeader(l)
		}
		return err
	}
}

// deadline is that of an import, by the hosts' clocks.
const deadline = time.Minute

// stoodStill has the leader stand still at a point of a rotation until another host leads, and has done so for a while,
// and then go on.
func stoodStill(point string, longer time.Duration) func(*world) error {
	return func(w *world) error {
		if err := errors.Join(w.arm("stop "+point), w.rotate(w.next())); err != nil {
			return err
		}
		l, err := w.struck(point, (*host).standsStill)
		if err == nil {
			err = w.standStill(l, longer)
		}
		return err
	}
}

// standStill has a host stand still until another one has led for a second and then for so long by the hosts' clocks.
func (w *world) standStill(l *host, longer time.Duration) error {
	l.pause()
	_, err := w.awaitLeader(l)
	time.Sleep(time.Second + w.clock.Load().Real(longer)) // of which the new leader makes use
	l.resume()
	return err
}

// awaitEvent waits until the chain has an event of a key, since its rotation was asked for last.
func (w *world) awaitEvent(h *host, event, name string) error {
	return w.eventually(event+" of "+name, func() bool {
		happened := false
		err := h.client().Audit(w.ctx, 0, name, func(e control.AuditEntry) error {
			happened = string(e.Event) == event || happened && e.Event != chain.RotationRequested
			return nil
		})
		return err == nil && happened
	})
}

// stoodStillInImport has the leader stand still while a vault takes its time over an import.
func stoodStillInImport(w *world) error {
	l, err := w.awaitLeader()
	if err != nil {
		return err
	}
	slowly := w.azure.Fail(emulatorDelay(3 * time.Second))
	defer slowly.Clear()
	if err := w.rotate(w.next()); err != nil {
		return err
	}
	if err := w.eventually("an import is under way", func() bool { return slowly.Hits() > 0 }); err != nil {
		return err
	}
	return w.standStill(l, 0)
}

// cutOff cuts the leader off in a rotation, until another host leads and has had time to work.
func cutOff(from lan) func(*world) error {
	return func(w *world) error {
		l, err := w.awaitLeader()
		if err != nil {
			return err
		}
		name := w.next()
		if err := w.rotate(name); err != nil {
			return err
		}
		if err := w.awaitEvent(l, "generation pinned", name); err != nil {
			return err
		}
		if err := w.net.cut(l.name, from); err != nil {
			return err
		}
		if _, err := w.awaitLeader(l); err != nil {
			return err
		}
		time.Sleep(2 * time.Second) // both go on as they can
		return nil
	}
}

// anHour restarts all hosts, the first with a clock that is off, so that it leads. It hands over.
func anHour(off time.Duration) func(*world) error {
	return func(w *world) error {
		for _, h := range w.hosts {
			if err := h.stop(); err != nil {
				return err
			}
		}
		first := w.hosts[0]
		if err := first.startBy(w.clock.Load().Later(off)); err != nil {
			return err
		}
		if _, err := w.awaitLeader(); err != nil {
			return err
		}
		for _, h := range w.hosts[1:] {
			if err := h.start(); err != nil {
				return err
			}
		}
		if err := w.rotate(w.next()); err != nil {
			return err
		}
		if _, err := w.awaitLeader(first); err != nil {
			return err
		}
		if err := w.settle(); err != nil {
			return err
		}
		return first.stop() // calm starts it by the right clock
	}
}

// stopped stops the store in a rotation, for some time.
func stopped(w *world) error {
	if err := w.rotate(w.next()); err != nil {
		return err
	}
	if err := w.engine.stop(); err != nil {
		return err
	}
	time.Sleep(5 * time.Second) // longer than a lease
	return w.engine.start()
}

// slowStore has each answer of the store come late during a rotation.
func slowStore(w *world) error {
	if err := w.engine.slow(40 * time.Millisecond); err != nil {
		return err
	}
	return errors.Join(w.rotate(w.next()), w.settle(), w.engine.slow(0))
}

// during asks for a rotation, and has the store do without something meanwhile.
func during(begin, end func(engine) error) func(*world) error {
	return func(w *world) error {
		if err := w.rotate(w.next()); err != nil {
			return err
		}
		if err := begin(w.engine); err != nil {
			return err
		}
		time.Sleep(4 * time.Second) // longer than a lease
		return end(w.engine)
	}
}

func failsOver(w *world) error {
	return errors.Join(w.rotate(w.next()), w.engine.failOver())
}

// rolling restarts each host under load: followers first, as the upgrade of an instance does.
func rolling(w *world) error {
	if err := w.rotate(w.keys[:w.rotating]...); err != nil {
		return err
	}
	l, err := w.awaitLeader()
	if err != nil {
		return err
	}
	order := slices.DeleteFunc(slices.Clone(w.hosts), func(h *host) bool { return h == l })
	for _, h := range append(order, l) {
		if err := errors.Join(h.stop(), h.start()); err != nil {
			return err
		}
		answers := func() bool { _, err := h.look(); return err == nil }
		if err := w.eventually("host "+h.name+" answers", answers); err != nil {
			return err
		}
		if err := w.rotate(w.next()); err != nil {
			return err
		}
	}
	return nil
}

// grow adds keys until there are many, a hundred at a time, and waits until each has its first generation.
func (w *world) grow() error {
	for len(w.keys) < w.most {
		for range min(100, w.most-len(w.keys)) {
			name := fmt.Sprint("key-", len(w.keys)+1)
			w.keys, w.wanted[name] = append(w.keys, name), 1
		}
		if err := errors.Join(w.configure(), w.reload(w.hosts...)); err != nil {
			return err
		}
		if err := w.settle(); err != nil {
			return err
		}
	}
	return nil
}

// takesOver kills the leader of many keys, and says how long it takes until another host does what was asked meanwhile.
func takesOver(w *world) error {
	if err := w.grow(); err != nil {
		return err
	}
	l, err := w.awaitLeader()
	if err != nil {
		return err
	}
	began, name := time.Now(), w.next()
	l.kill()
	if err := w.rotate(name); err != nil {
		return err
	}
	if l, err = w.awaitLeader(l); err != nil {
		return err
	}
	led := time.Since(began)
	if err := w.awaitEvent(l, "generation reserved", name); err != nil {
		return err
	}
	fmt.Printf("%-8s  after a kill with %d keys and a lease of 2 s another host led after %.1f s, and acted after "+
		"%.1f s\n", w.name, len(w.keys), led.Seconds(), time.Since(began).Seconds())
	return nil
}

// many has many keys rotate while the store fails over twice.
func many(w *world) error {
	if err := errors.Join(w.grow(), w.rotate(w.keys...)); err != nil {
		return err
	}
	for range 2 {
		if err := w.engine.failOver(); err != nil {
			return err
		}
		if _, err := w.awaitLeader(); err != nil {
			return err
		}
	}
	return nil
}
