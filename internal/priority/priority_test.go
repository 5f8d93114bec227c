package priority

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// turns makes the picker choose n times while the same classes wait.
func turns(n int, waiting ...Class) map[Class]int {
	var p Picker
	got := map[Class]int{}
	for range n {
		c, _ := p.Next(func(c Class) bool {
			for _, w := range waiting {
				if w == c {
					return true
				}
			}
			return false
		})
		got[c]++
	}
	return got
}

func TestTheHighestClassGoesFirstAndEachGetsATenth(t *testing.T) {
	got := turns(1000, All()...)
	for _, c := range All() {
		if got[c] < 100-1 {
			t.Errorf("class %s got %d of 1000 turns", c, got[c])
		}
	}
	if got[Operator] < 550 {
		t.Errorf("an operator's work got %d of 1000 turns", got[Operator])
	}
}

func TestAClassThatWaitsAloneGetsEveryTurn(t *testing.T) {
	if got := turns(50, Look); got[Look] != 50 {
		t.Errorf("turns: %v", got)
	}
}

func TestNobodyWaitsNobodyIsChosen(t *testing.T) {
	var p Picker
	if c, ok := p.Next(func(Class) bool { return false }); ok {
		t.Errorf("%s was chosen", c)
	}
}

func TestAContextWithoutAClassIsALook(t *testing.T) {
	if c := Of(context.Background()); c != Look {
		t.Errorf("class %s", c)
	}
	if c := Of(With(context.Background(), Repair)); c != Repair {
		t.Errorf("class %s", c)
	}
}

func TestASlotGoesToTheHigherClassThoughTheOtherWaitedLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSlots(1)
		if err := s.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		order := make(chan Class, 2)
		for _, c := range []Class{Look, Operator} {
			go func() {
				if s.Acquire(With(t.Context(), c)) == nil {
					order <- c
					s.Release()
				}
			}()
			synctest.Wait()
		}
		s.Release()
		if first, second := <-order, <-order; first != Operator || second != Look {
			t.Errorf("first %s, then %s", first, second)
		}
	})
}

func TestWhoStopsWaitingTakesNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSlots(1)
		if err := s.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		gone, leave := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() { result <- s.Acquire(gone) }()
		synctest.Wait()
		leave()
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Errorf("it answers %v", err)
		}
		if n := s.Waiting(Look); n != 0 {
			t.Errorf("%d wait", n)
		}
		s.Release()
		if err := s.Acquire(t.Context()); err != nil {
			t.Errorf("the slot is lost: %v", err)
		}
	})
}
