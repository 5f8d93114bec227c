package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/keyd-project/keyd/softhsm-test/fasttime"
	"github.com/keyd-project/keyd/softhsm-test/measure"
)

const (
	look      = 15 * time.Minute // health.look's default
	pollEvery = 100 * time.Millisecond
	quietTime = 4 * time.Second // without a call, after which nothing more follows from what was done
	stallTime = 5 * time.Minute // without a call, after which keyd is stuck
)

// part is what one part of the story cost.
type part struct {
	counts
	used  measure.Sides // memory at its end
	first time.Duration // until the first key was proven
	last  time.Duration // until the last key was proven, or keyd was READY
}

// story is what is measured, part by part.
type story struct {
	*world
	ledger *ledger

	up, rotation, restart, proofs, quiet part
	proofsDone                           int
	factor                               int  // how fast the quiet looks passed
	late                                 bool // keyd could not keep up with that
	scrapes                              []scrape
	afterReady                           int // calls of the restart that came after it was READY
	statusTook                           time.Duration
	hsmRestarts                          int
}

// tell plays the parts one after the other.
func tell(ctx context.Context, w *world) (table, error) {
	s := &story{world: w, ledger: newLedger(w)}
	for _, p := range []struct {
		name string
		play func(context.Context) error
	}{
		{"bring them up", s.bringUp}, {"rotate them", s.rotate}, {"restart", s.startAgain}, {"prove them", s.prove},
		{"look at them in quiet", s.lookQuietly},
	} {
		began := time.Now()
		if err := p.play(ctx); err != nil {
			return table{}, fmt.Errorf("%s: %w", p.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s: %.0f s\n", p.name, time.Since(began).Seconds())
	}
	return s.table(), nil
}

// bringUp makes the keys' first generations.
func (s *story) bringUp(ctx context.Context) error {
	if err := errors.Join(s.configure(never, never), s.start("keyd")); err != nil {
		return err
	}
	return s.generation(ctx, 1, &s.up, counts{})
}

// rotate has an operator ask for a rotation of every key.
func (s *story) rotate(ctx context.Context) error {
	before, err := s.ledger.all(ctx)
	if err != nil {
		return err
	}
	s.keyd.began = time.Now()
	if err := s.command(ctx, "rotate", "--now", "--yes", "--no-wait", "--reason", "make scale"); err != nil {
		return err
	}
	return s.generation(ctx, 2, &s.rotation, before)
}

// generation waits until generation n of every key is finished and nothing more is done, and notes what it cost in p.
func (s *story) generation(ctx context.Context, n int, p *part, before counts) error {
	err := s.wait(ctx, fmt.Sprintf("generation %d of every key is proven", n), func() bool {
		proven := s.ledger.provenKeys(n)
		if proven > 0 && p.first == 0 {
			p.first = time.Since(s.keyd.began)
		}
		return proven == s.keys
	})
	if err != nil {
		return err
	}
	p.last = time.Since(s.keyd.began)
	var scraped time.Time
	err = s.wait(ctx, fmt.Sprintf("generation %d of every key is finished", n), func() bool {
		if time.Since(scraped) < time.Second {
			return false
		}
		sc, err := s.scrape(ctx)
		scraped = time.Now()
		return err == nil && sc.total("keyd_steps_total", "step", "finish") >= n*s.keys
	})
	if err != nil {
		return err
	}
	if err := s.untilQuiet(ctx); err != nil {
		return err
	}
	return s.note(ctx, p, before)
}

// startAgain stops keyd, starts it, and measures until it is READY.
func (s *story) startAgain(ctx context.Context) error {
	sc, err := s.scrape(ctx)
	if err != nil {
		return err
	}
	s.hsmRestarts = sc.total("keyd_hsm_restarts_total", "", "")
	before, err := s.restarted(ctx, "keyd")
	if err != nil {
		return err
	}
	s.restart.last = time.Since(s.keyd.began)
	if err := s.note(ctx, &s.restart, before); err != nil {
		return err
	}
	ready, err := s.readySince()
	if err != nil {
		return err
	}
	s.restart.vault = s.ledger.until(ready) // quiet keys are looked at from that moment on
	if err := s.untilQuiet(ctx); err != nil {
		return err
	}
	after, err := s.ledger.outside()
	if err != nil {
		return err
	}
	s.afterReady = after.minus(before).ofTheKeys() - s.restart.ofTheKeys()
	for range 5 {
		sc, err := s.scrape(ctx)
		if err != nil {
			return err
		}
		s.scrapes = append(s.scrapes, sc)
	}
	began := time.Now()
	if err := s.command(ctx, "status"); err != nil {
		return err
	}
	s.statusTook = time.Since(began)
	s.restart.used, err = measure.Keyd(s.keyd.pid())
	slices.SortFunc(s.scrapes, func(a, b scrape) int { return int(a.took - b.took) })
	return err
}

// restarted stops keyd, starts it again and waits until it is READY. before is what was counted in between.
func (s *story) restarted(ctx context.Context, program string, env ...string) (before counts, err error) {
	if err := s.stop(ctx); err != nil {
		return before, err
	}
	if before, err = s.ledger.outside(); err != nil {
		return before, err
	}
	s.ledger.calls = nil
	if err := s.start(program, env...); err != nil {
		return before, err
	}
	return before, s.wait(ctx, "keyd is ready", func() bool { return s.ready(ctx) })
}

// prove lets routine proofs pass, at most one in a second and vault, so that the vault's limits delay none.
func (s *story) prove(ctx context.Context) error {
	pause := max(10*time.Second, time.Second*time.Duration(s.keys/s.vaults))
	if err := s.configure(never, pause); err != nil {
		return err
	}
	listings := s.ledger.counted.vault["versions"]
	if _, err := s.restarted(ctx, "keyd"); err != nil {
		return err
	}
	if err := s.untilLooked(ctx, listings+s.keys); err != nil {
		return err
	}
	before, err := s.ledger.all(ctx)
	if err != nil {
		return err
	}
	wanted := before.vault["unwrap"] + min(s.keys, 20)
	err = s.wait(ctx, "routine proofs pass", func() bool { return s.ledger.counted.vault["unwrap"] >= wanted })
	if err != nil {
		return err
	}
	err = s.note(ctx, &s.proofs, before)
	s.proofsDone = s.proofs.vault["unwrap"]
	for _, op := range looking {
		delete(s.proofs.vault, op)
	}
	return err
}

// looking are the calls to a vault that only a look makes, and no proof.
var looking = []string{"versions", "list", "rotationpolicy"}

// untilLooked waits until the looks that follow a start have ended, with so many listings of versions in all. Proofs go
// on.
func (s *story) untilLooked(ctx context.Context, listings int) error {
	last, since := -1, time.Now()
	return s.wait(ctx, "the looks after the start are over", func() bool {
		if s.ledger.counted.vault["versions"] < listings {
			return false
		}
		looks := 0
		for _, op := range looking {
			looks += s.ledger.counted.vault[op]
		}
		if looks != last {
			last, since = looks, time.Now()
		}
		return time.Since(since) > quietTime
	})
}

// lookQuietly lets looks pass on a fast clock, which keyd and Azure share from now on. Deadlines go by that clock, too,
// so a busy machine may miss them, and keyd calls again. What is over its goal for another reason is so at any pace.
func (s *story) lookQuietly(ctx context.Context) error {
	// The real time of a look: long enough for the deadlines, and for all keys.
	const shortest, ofAKey, longest = 10 * time.Second, 20 * time.Millisecond, 90 * time.Second
	for took := max(shortest, ofAKey*time.Duration(s.keys)); ; took *= 3 {
		if err := s.lookAtPace(ctx, max(2, int(look/took))); err != nil {
			return err
		}
		if !s.late && !s.quietLooks().over() || took >= longest {
			return s.stop(ctx)
		}
		fmt.Fprintf(os.Stderr, "look at them in quiet, %d times as fast as in life, was too fast for this machine\n",
			s.factor)
	}
}

// lookAtPace lets looks pass so many times as fast as in life.
func (s *story) lookAtPace(ctx context.Context, factor int) error {
	s.factor = factor
	if err := s.stop(ctx); err != nil {
		return err
	}
	if err := s.configure(look, never); err != nil {
		return err
	}
	now := time.Now()
	clock := fasttime.Clock{Since: now, Factor: factor}.Later(s.now().Sub(now))
	s.clock.Store(&clock)
	if err := s.start("keyd-fast", clock.Environ()); err != nil {
		return err
	}
	if err := s.wait(ctx, "keyd is ready", func() bool { return s.ready(ctx) }); err != nil {
		return err
	}
	if err := s.pass(ctx, clock.Real(look)); err != nil {
		return err
	}
	before, err := s.ledger.all(ctx)
	if err != nil {
		return err
	}
	window := clock.Real(time.Duration(s.looks) * look)
	if err := s.pass(ctx, window); err != nil {
		return err
	}
	if err := s.note(ctx, &s.quiet, before); err != nil {
		return err
	}
	sc, err := s.scrape(ctx)
	if err != nil {
		return err
	}
	s.late = sc.total("keyd_hsm_losses_total", "", "") > 0 ||
		s.quiet.network+s.quiet.hsm > window*time.Duration(runtime.NumCPU())*3/4
	return nil
}

// note notes what was counted since before, and what keyd has used.
func (s *story) note(ctx context.Context, p *part, before counts) error {
	after, err := s.ledger.all(ctx)
	if err != nil {
		return err
	}
	p.counts = after.minus(before)
	p.used, err = measure.Keyd(s.keyd.pid())
	return err
}

// wait reads the ledger until cond holds.
func (s *story) wait(ctx context.Context, what string, cond func() bool) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for began := time.Now(); ; {
		if err := s.ledger.read(); err != nil {
			return err
		}
		if cond() {
			return nil
		}
		since := min(time.Since(s.ledger.last), time.Since(began))
		if since > stallTime {
			return fmt.Errorf("waiting until %s: no call to a vault for %s", what, stallTime)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w", what, context.Cause(ctx))
		case <-s.keyd.ended:
			return fmt.Errorf("waiting until %s: keyd ended: %w", what, s.keyd.err)
		case <-tick.C:
		}
	}
}

func (s *story) untilQuiet(ctx context.Context) error {
	began := time.Now()
	return s.wait(ctx, "keyd makes no more calls", func() bool {
		return time.Since(s.ledger.last) > quietTime && time.Since(began) > quietTime
	})
}

// pass lets time pass.
func (s *story) pass(ctx context.Context, d time.Duration) error {
	until := time.Now().Add(d)
	return s.wait(ctx, "time passes", func() bool { return time.Now().After(until) })
}
