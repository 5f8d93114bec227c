package rotate_test

import (
	"context"
	"testing"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/status"
)

// Otherwise a screen shows the step before: "reserve" for the minutes in which a pair is generated.
func TestTheLoopShowsTheStepThatIsUnderWay(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	r := w.rotator()
	l := rotate.NewLoop(r, 1)
	ctx, stop := context.WithCancel(t.Context())
	shown := 0
	r.Emit = func(e status.Event) {
		step, underWay := l.Position(e.Key).UnderWay()
		if e.Phase == status.Begin {
			shown++
			if !underWay || string(step.Kind) != e.Step {
				t.Errorf("%s begins, and the loop shows %q as under way", e.Step, step.Kind)
			}
		}
		if e.Step == string(plan.Pin) && e.Phase == status.Done {
			stop()
		}
	}
	l.SetPolicies([]key.Policy{p})
	l.Run(leading(ctx))
	if _, underWay := l.Position(p.Key).UnderWay(); underWay || shown < 3 {
		t.Errorf("%d steps began, and one is still shown after its end: %v", shown, underWay)
	}
}
