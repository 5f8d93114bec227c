package simulate

import (
	"math/rand/v2"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/plan"
)

// stills has daemons stand still between the save of an intent and its effect, as a process or a host does. Only one
// story in five has it, and what it draws changes no other draw.
type stills struct {
	draw *rand.Rand
	// lost is how long the acting daemon stood still since its last save: a clock that stands still with it does not
	// show that.
	lost time.Duration
	at   map[intent]time.Time // when each intent was saved last
}

func newStills(seed uint64) stills {
	s := stills{at: map[intent]time.Time{}}
	if seed%5 == 0 {
		s.draw = rand.New(rand.NewPCG(seed, 3))
	}
	return s
}

// standStill may have the acting daemon stand still after it saved an intent. Meanwhile the others go on.
func (w *World) standStill(event chain.Event) {
	s := &w.stills
	if s.lost = 0; s.draw == nil || w.calm || w.overtaking || !strings.HasSuffix(string(event), "intended") ||
		s.draw.IntN(25) > 0 {
		return
	}
	lost := time.Duration(1+s.draw.IntN(40)) * time.Minute
	w.log("the daemon stands still for %s", lost)
	w.result.Faults++
	w.pass(lost)
	w.overtake()
	s.lost = lost
}

// judgeInTime fails if an effect leaves after its deadline, by true time. The deadline counts from before the save.
func (w *World) judgeInTime(of intent, within time.Duration, what string) {
	if w.hosts != nil {
		return // there it is judged at the moment of the check
	}
	if late := w.now.Sub(w.stills.at[of].Add(within)); late > 0 && !w.stills.at[of].IsZero() {
		w.violate("%s leaves %s after its deadline", what, late)
	}
}

// boot is the clock of every host that nobody can set.
func (w *World) boot() time.Duration { return w.now.Sub(w.begun) }

// judgeStep is judgeInTime of an effect that has as long as a step.
func (w *World) judgeStep(of intent, what string) { w.judgeInTime(of, plan.StepTimeout, what) }
