package term_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/term"
)

// begun is when each test's intent was saved.
var begun = term.Instant{Wall: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC), Boot: 40 * time.Hour}

// effect may begin within a minute.
func effect(now *term.Instant, prove func(context.Context) error) term.Effect {
	return term.Effect{What: "the import", Saved: begun, Deadline: begun.Add(time.Minute), Prove: prove,
		Clock: func() term.Instant { return *now }}
}

func TestAnEffectBeginsOnlyBeforeItsDeadlineByBothClocks(t *testing.T) {
	later := func(wall, boot time.Duration) term.Instant {
		return term.Instant{Wall: begun.Wall.Add(wall), Boot: begun.Boot + boot}
	}
	for name, c := range map[string]struct {
		now  term.Instant
		late bool
	}{
		"at once":                                {begun, false},
		"just in time":                           {later(time.Minute-1, time.Minute-1), false},
		"at the deadline":                        {later(time.Minute, time.Minute), true},
		"the wall clock was set forward":         {later(time.Hour, time.Second), true},
		"the host was suspended":                 {later(time.Hour, time.Hour), true},
		"it was suspended, and its clock set":    {later(time.Second, time.Hour), true},
		"the wall clock was set back":            {later(-time.Hour, time.Second), false},
		"it was set back, and the time was over": {later(-time.Hour, time.Hour), true},
	} {
		err := term.Check(term.WithEffect(t.Context(), effect(&c.now, nil)))
		if late := new(term.LateError); errors.As(err, &late) != c.late || (err == nil) == c.late {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatIsNoEffectMayAlwaysBegin(t *testing.T) {
	if err := term.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTwoSecondsAfterTheSaveLeadershipIsProvenAgain(t *testing.T) {
	now, proofs := begun, 0
	ctx := term.WithEffect(t.Context(), effect(&now, func(context.Context) error { proofs++; return nil }))
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{2 * time.Second, 0}, {3 * time.Second, 1}, {5 * time.Second, 1}, {6 * time.Second, 2}} {
		now = begun.Add(step.after)
		if err := term.Check(ctx); err != nil {
			t.Fatal(err)
		}
		if proofs != step.want {
			t.Errorf("%s after the save leadership was proven %d times, want %d", step.after, proofs, step.want)
		}
	}
}

func TestAnEffectWithoutASaveBeforeItNeedsAProofAtOnce(t *testing.T) {
	now, proofs := begun, 0
	e := effect(&now, func(context.Context) error { proofs++; return nil })
	e.Saved = term.Instant{}
	if err := term.Check(term.WithEffect(t.Context(), e)); err != nil || proofs != 1 {
		t.Errorf("%v after %d proofs, want one", err, proofs)
	}
}

func TestAnEffectDoesNotBeginWithoutAProof(t *testing.T) {
	now, lost := begun.Add(3*time.Second), errors.New("another daemon leads now")
	err := term.Check(term.WithEffect(t.Context(), effect(&now, func(context.Context) error { return lost })))
	if late := new(term.LateError); !errors.As(err, &late) || !errors.Is(err, lost) ||
		!strings.Contains(err.Error(), "the import") {
		t.Errorf("%v, want why it did not begin", err)
	}
}

func TestAProofThatTakesTooLongIsNoUse(t *testing.T) {
	now := begun.Add(3 * time.Second)
	slow := func(context.Context) error { now = begun.Add(time.Hour); return nil }
	if err := term.Check(term.WithEffect(t.Context(), effect(&now, slow))); err == nil {
		t.Error("the effect begins after its deadline")
	}
}

func TestTheHostsClocksGoForward(t *testing.T) {
	a := term.Now()
	if b := term.Now(); b.Boot < a.Boot || a.Boot <= 0 || a.Wall.IsZero() {
		t.Errorf("%v and then %v", a, b)
	}
}

func TestAProofThatTookLongIsMadeAgain(t *testing.T) {
	now, proofs := begun.Add(3*time.Second), 0
	ctx := term.WithEffect(t.Context(), effect(&now, func(context.Context) error {
		if proofs++; proofs == 1 {
			now = now.Add(3 * time.Second) // the answer says how things were then
		}
		return nil
	}))
	if err := term.Check(ctx); err != nil || proofs != 2 {
		t.Errorf("%v after %d proofs, want two", err, proofs)
	}
}
