package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
)

// postgresStories are about a primary and its standby, which etcd does not have.
var postgresStories = []story{
	{"a standby is promoted, and the old primary still takes writes", "postgres", true, twoPrimaries},
	{"a promoted standby missed a commit", "postgres", false, missedCommit},
}

func emulatorDelay(by time.Duration) emulator.Rule {
	return emulator.Rule{Operation: "import", Delay: by}
}

// twoPrimaries promotes the standby while the primary goes on.
func twoPrimaries(w *world) error {
	p, ok := w.engine.(*postgres)
	if !ok {
		return errors.New("the store is not PostgreSQL")
	}
	old := p.primary
	if err := errors.Join(w.rotate(w.next()), p.promote()); err != nil {
		return err
	}
	if err := p.used[old].Set("synchronous_standby_names = ''"); err != nil { // it waits for nobody any more
		return err
	}
	if err := errors.Join(w.rotate(w.next()), w.settle()); err != nil {
		return err
	}
	return p.drop(old)
}

// missedCommit promotes a standby that lacks what the hosts have seen. All of them stop until each of them was told to
// go on.
func missedCommit(w *world) error {
	p, ok := w.engine.(*postgres)
	if !ok {
		return errors.New("the store is not PostgreSQL")
	}
	primary, standby := p.used[p.primary], p.used[p.standby]
	if err := standby.Stop(); err != nil {
		return err
	}
	before, err := w.entries(primary.SQL)
	if err != nil {
		return err
	}
	// Somebody pauses a key, and nobody waits for the standby.
	if err := primary.Set("synchronous_standby_names = ''"); err != nil {
		return err
	}
	h := w.hosts[0]
	if _, err := h.command("pause", w.keys[0], "--reason", "a test of a lost commit", "--socket", h.path("keyd.sock")); err != nil {
		return err
	}
	if err := w.eventually("the primary has the commit", func() bool {
		now, err := w.entries(primary.SQL)
		return err == nil && now > before
	}); err != nil {
		return err
	}
	if err := w.eventually("all hosts saw it", func() bool { return w.allSaw() }); err != nil {
		return err
	}
	old := p.primary
	if err := errors.Join(primary.Crash(), standby.Run(), p.promote(), p.drop(old)); err != nil {
		return err
	}
	return w.goOn()
}

// entries counts those of the audit chain.
func (w *world) entries(ask func(database, statement string) (string, error)) (n int, err error) {
	out, err := ask(database, "SELECT count(*) FROM keyd.entry")
	if err == nil {
		_, err = fmt.Sscan(out, &n)
	}
	return n, err
}

// allSaw reports whether every host shows the key that was paused.
func (w *world) allSaw() bool {
	for _, h := range w.hosts {
		s, err := h.look()
		if k, ok := s.Key(w.keys[0]); err != nil || !ok || k.Hold == nil {
			return false
		}
	}
	return true
}

// goOn requires that nobody leads though proofs go on, and then has each host accept the store as it is.
func (w *world) goOn() error {
	if err := w.eventually("the instance has stopped", func() bool {
		h := w.hosts[0]
		out, err := h.command("store", "status", "--config", h.path("keyd.yaml"))
		return err != nil && len(out) > 0
	}); err != nil {
		return err
	}
	_, from := w.azure.RequestsSince(0)
	if err := w.eventually("a proof while the instance has stopped", func() bool {
		calls, _ := w.azure.RequestsSince(from)
		for _, c := range calls {
			if c.Operation == "unwrap" && c.Done == 200 {
				return true
			}
		}
		return false
	}); err != nil {
		return err
	}
	if l, _ := w.leader(); l != nil {
		return fmt.Errorf("host %s leads though the store lost a commit that it saw", l.name)
	}
	for _, h := range w.hosts {
		if _, err := h.command("store", "accept", "--reason", "a test: the pause is asked for anew", "--config",
			h.path("keyd.yaml")); err != nil {
			return err
		}
	}
	return w.rotate(w.keys[0])
}
