package leader_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyd-project/keyd/internal/leader"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

func TestOneHostAtATimeLeads(t *testing.T) {
	for _, hosts := range []int{1, 2, 3} {
		for seed := range uint64(20) {
			t.Run(fmt.Sprintf("%d hosts, seed %d", hosts, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					random := rand.New(rand.NewPCG(seed, 1))
					w.store.fails(func() fault {
						return fault{
							before: time.Duration(random.Int64N(int64(2*ttl))) / time.Duration(1+random.IntN(20)),
							after:  time.Duration(random.Int64N(int64(2*ttl))) / time.Duration(1+random.IntN(20)),
							gone:   random.IntN(10) == 0, lost: random.IntN(10) == 0,
						}
					})
					for i := range hosts {
						w.start(fmt.Sprint("host-", i), 10*seed+uint64(i))
					}
					w.pass(10 * time.Minute)
					if w.terms == 0 {
						t.Error("no host ever led")
					}
				})
			})
		}
	}
}

func TestAHostThatWasSuspendedFindsItsTermOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.start("a", 1)
		w.pass(time.Second)
		before := w.lead(a)
		a.pause()
		b := w.start("b", 2)
		w.pass(ttl + 3*time.Second)
		w.lead(b)
		if before.Err() != nil {
			t.Fatal("the term of a host that stands still was ended: the test shows nothing")
		}
		a.resume()
		w.pass(0)
		if before.Err() == nil {
			t.Error("the term goes on after the host's suspension, though another host leads")
		}
		if err := a.Prove(context.WithoutCancel(before)); !errors.Is(err, stored.ErrEpoch) {
			t.Errorf("Prove of the term before the suspension = %v, want ErrEpoch", err)
		}
		if err := b.Prove(b.term()); err != nil {
			t.Errorf("Prove of the present term = %v", err)
		}
	})
}

func TestAnotherHostActsWithinTheLeaseAndThreeSecondsOfACrash(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.start("a", seed), w.start("b", seed+100)
			w.pass(time.Duration(seed) * time.Second)
			crashed, other := a, b
			if !a.leads() {
				crashed, other = b, a
			}
			crashed.pause()
			w.pass(ttl + 3*time.Second)
			w.lead(other)
			crashed.resume()
			w.pass(0)
		})
	}
}

func TestAnotherHostActsAtOnceAfterACleanStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.start("a", 1)
		w.pass(time.Second)
		w.lead(a)
		b := w.start("b", 2)
		w.pass(time.Second)
		a.stop()
		w.pass(2 * time.Second)
		w.lead(b)
	})
}

func TestTheLeaseIsKeptUntilWhatWasBegunHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.start("a", 1)
		a.set(func() { a.finishing = 3 * ttl })
		w.pass(time.Second)
		b := w.start("b", 2)
		a.stop()
		w.pass(3*ttl - time.Second)
		if b.leads() {
			t.Fatal("another host leads, while the first finishes what it has begun")
		}
		w.pass(4 * time.Second)
		w.lead(b)
	})
}

func TestATermEndsInTimeWhenTheStoreIsGone(t *testing.T) {
	for name, f := range map[string]fault{"gone": {gone: true}, "hangs": {before: time.Hour}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				a := w.start("a", 1)
				w.pass(time.Second)
				w.lead(a)
				w.store.fails(func() fault { return f })
				w.pass(ttl)
				if a.leads() {
					t.Error("the host still leads")
				}
				w.store.fails(nil)
				w.pass(ttl + time.Second)
				w.lead(a)
			})
		})
	}
}

func TestALostAnswerToARenewalEndsNoTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.start("a", 1)
		w.pass(time.Second)
		n := 0
		w.store.fails(func() fault { n++; return fault{lost: n%2 == 0} })
		w.pass(time.Minute)
		if w.lead(a); w.terms != 1 {
			t.Errorf("%d terms, want 1", w.terms)
		}
	})
}

func TestARefusedWriteEndsTheTermAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.start("a", 1)
		w.pass(time.Second)
		mine := w.lead(a)
		_ = a.Refused(mine, errors.New("another error"))
		if mine.Err() != nil {
			t.Fatal("another error ended the term")
		}
		_ = a.Refused(term.With(t.Context(), term.Epoch{Number: 77}), stored.ErrEpoch)
		if mine.Err() != nil {
			t.Fatal("the refusal of an earlier term ended this one")
		}
		_ = a.Refused(mine, fmt.Errorf("save: %w", stored.ErrEpoch))
		if mine.Err() == nil {
			t.Error("the term goes on")
		}
		w.pass(0)
	})
}

func TestAnotherDaemonOfTheSameNameDoesNotTakeTheLeaseAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.start("a", 1)
		w.pass(time.Second)
		a.pause()
		again := w.start("a", 2) // as after a crash
		w.pass(time.Second)
		w.lead(again)
		a.resume()
		w.pass(ttl)
		w.lead(again)
		var same *leader.SameNameError
		if err := a.State().Err; !errors.As(err, &same) {
			t.Errorf("the daemon that lost the lease says %v, want a SameNameError", err)
		}
	})
}

func TestRunEndsWithWorkThatEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		done := errors.New("done")
		a := w.host("a", 1)
		if err := a.Run(t.Context(), func(context.Context) error { return done }); !errors.Is(err, done) {
			t.Errorf("Run = %v", err)
		}
		if l, _ := w.store.Lease(t.Context()); l.Left > 0 {
			t.Error("the lease was not released")
		}
	})
}

func TestAHostHandsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.start("a", 1)
		w.pass(time.Second)
		a.set(func() { a.waits = 3 * ttl })
		b := w.start("b", 2)
		a.Resign("its HSM does not answer")
		w.pass(2 * time.Second)
		w.lead(b)
		b.stop()
		w.pass(2 * time.Second)
		if a.leads() {
			t.Fatal("a host takes the lease at once, though it may not")
		}
		w.pass(3 * ttl)
		w.lead(a)
	})
}

func TestALeaseThatNeverEndsIsAskedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.endless = true
		a := w.start("a", 1)
		w.pass(time.Hour)
		if w.lead(a); w.store.calls != 2 || !a.State().Alone() {
			t.Errorf("%d calls, alone: %v; want 2 and true", w.store.calls, a.State().Alone())
		}
	})
}

// halted is a store that tells who leads and takes no changes, as one that lost changes does.
type halted struct{ *leases }

var errHalted = errors.New("the store lost changes")

func (halted) Renew(context.Context, term.Epoch, time.Duration) (stored.Lease, error) {
	return stored.Lease{}, errHalted
}

func TestAStoreThatTakesNoChangesProvesNothing(t *testing.T) {
	store := halted{&leases{}}
	l, err := store.Take(t.Context(), "a", [16]byte{1}, ttl)
	if err != nil {
		t.Fatal(err)
	}
	e := leader.New(leader.Config{Store: store, Host: "a", TTL: ttl})
	if err := e.Prove(term.With(t.Context(), l.Epoch)); !errors.Is(err, errHalted) {
		t.Errorf("Prove = %v, want why the store takes no changes", err)
	}
}
