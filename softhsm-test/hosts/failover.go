package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
)

// postgresStories are about a primary and its standby, which etcd does not have.
var postgresStories = []story{
	{"a standby is promoted, and the old primary still takes writes", "postgres", true, twoPrimaries},
	{"a promoted standby missed a commit", "postgres", true, missedCommit},
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
	old, left := p.primary, p.standby
	other := 3 - old - left
	// Two standbys, of which one suffices.
	if err := p.follow(other); err != nil {
		return err
	}
	both := fmt.Sprintf("ANY 1 (s%d, s%d)", p.names-1, p.names)
	if err := errors.Join(p.used[old].Synchronise(both, 2), p.used[left].Stop()); err != nil {
		return err
	}
	h := w.hosts[0]
	if _, err := h.command("pause", w.keys[0], "--reason", "a test of a lost commit", "--socket",
		h.path("keyd.sock")); err != nil {
		return err
	}
	if err := w.eventually("all hosts saw the pause", w.allSaw); err != nil {
		return err
	}
	// Somebody promotes the wrong one.
	if err := errors.Join(p.used[old].Crash(), p.drop(other), p.used[left].Run()); err != nil {
		return err
	}
	p.standby = left
	if err := errors.Join(p.promote(), p.drop(old)); err != nil {
		return err
	}
	return w.goOn()
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
	h := w.hosts[0]
	if err := w.eventually("the instance has stopped", func() bool {
		out, err := h.command("store", "status", "--config", h.path("keyd.yaml"))
		return err != nil && strings.Contains(out, "stopped: ")
	}); err != nil {
		return err
	}
	if err := w.eventually("no host leads", func() bool { l, _ := w.leader(); return l == nil }); err != nil {
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
		return fmt.Errorf("host %s leads again, though nobody has accepted the store that lost a commit", l.name)
	}
	for _, h := range w.hosts {
		if _, err := h.command("store", "accept", "--reason", "a test: the pause is lost", "--socket",
			h.path("keyd.sock")); err != nil {
			return err
		}
	}
	return w.rotate(w.keys[0])
}
