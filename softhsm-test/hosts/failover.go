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

// twoPrimaries promotes the standby while the primary goes on, and somebody has that wait for nobody any more. keyd
// does nothing by what the old primary alone has. A host that saw something there, such as a commit that was waiting,
// stops the instance, until an operator accepts that it is lost.
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
	defer w.acceptLosses()()
	if err := errors.Join(w.rotate(w.next()), w.settle()); err != nil {
		return err
	}
	return p.drop(old)
}

// acceptLosses has an operator look, until the function that it returns is called, whether the instance has stopped
// because the store lost a change, and accept that.
func (w *world) acceptLosses() (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Second):
			}
			if w.stopped() {
				_ = w.accept() // or the next time
			}
		}
	}()
	return func() { close(done); <-ended }
}

// stopped reports whether the instance has stopped because the store lost a change.
func (w *world) stopped() bool {
	out, err := w.hosts[0].command("store", "status", "--config", w.hosts[0].path("keyd.yaml"))
	return err != nil && strings.Contains(out, "stopped: ")
}

// accept has each host go on with the store as it is.
func (w *world) accept() (err error) {
	for _, h := range w.hosts {
		_, failed := h.command("store", "accept", "--reason", "a test: what the old primary alone had is lost",
			"--socket", h.path("keyd.sock"))
		err = errors.Join(err, failed)
	}
	return err
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
	if err := w.eventually("the instance has stopped", w.stopped); err != nil {
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
	return errors.Join(w.accept(), w.rotate(w.keys[0]))
}
