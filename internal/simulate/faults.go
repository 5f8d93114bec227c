package simulate

import (
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// classError is an error of a model, with its class.
type classError struct {
	text  string
	class key.Class
}

func (e *classError) Error() string    { return e.text }
func (e *classError) Class() key.Class { return e.class }

func failed(class key.Class, format string, args ...any) error {
	return &classError{fmt.Sprintf(format, args...), class}
}

// crash ends the daemon that is acting. It is panicked with.
type crash struct{}

// fault is what may go wrong with a call.
type fault string

const (
	refusal     fault = "certainly no effect, try again"
	forbidden   fault = "403"
	lostBefore  fault = "no effect, and the answer is lost"
	lostAfter   fault = "its effect, and the answer is lost"
	crashBefore fault = "crash before the effect"
	crashAfter  fault = "crash after the effect"
	slow        fault = "slow"
	outage      fault = "out of order for a while"
	overtaken   fault = "another daemon steps in between"
	interrupted fault = "somebody acts in between"
	throttled   fault = "throttled"
	partial     fault = "half of the effect, and the answer is lost"
	late        fault = "the answer is lost, and the effect comes later"
)

var (
	always  = []fault{refusal, lostBefore, lostAfter, crashBefore, crashAfter, slow, outage, overtaken, interrupted}
	atVault = append([]fault{forbidden, throttled}, always...)
	atMake  = append([]fault{partial, late}, always...)
	// PUTs often land late here, because attempt ids exist for that case.
	atImport = append([]fault{late, late, late, late}, atVault...)
)

// trouble says how one part of the world is out of order, and until when.
type trouble struct {
	until time.Time
	class key.Class
	// throttled: every call during the trouble prolongs it to at least throttleTime from then.
	throttled bool
}

const throttleTime = 3 * time.Second

// call makes one call to a part of the world, and draws whether a fault strikes it.
// For faults in which less than the effect happens, or later, half makes half of
// it, and delayed makes it happen later.
func (w *World) call(
	part string,
	t *trouble,
	op string,
	faults []fault,
	effect func() error,
	half, delayed func(),
) error {
	w.result.Calls++
	if err := w.hosts.unreachable(part); err != nil {
		return err
	}
	f := w.strike(op, faults)
	if f != "" {
		w.result.Faults++
		w.log("%s %s: %s", part, op, f)
	}
	switch f {
	case crashBefore:
		panic(crash{})
	case refusal:
		return failed(key.Retry, "model: %s %s fails", part, op)
	case forbidden:
		return failed(key.Refused, "model: %s forbids %s", part, op)
	case lostBefore:
		return failed(key.Ambiguous, "model: %s lost the answer to %s", part, op)
	case slow:
		w.pass(w.between(time.Second, 50*time.Second))
	case outage:
		*t = trouble{until: w.now.Add(w.between(10*time.Second, 3*time.Hour)), class: key.Retry}
		if len(faults) != len(always) && w.chance(2) {
			t.class = key.Refused
		}
	case throttled:
		*t = trouble{until: w.now.Add(w.between(throttleTime, time.Minute)), class: key.Retry, throttled: true}
	case overtaken:
		w.overtake()
	case interrupted:
		w.interrupt()
	case partial:
		half()
		return failed(key.Ambiguous, "model: %s lost the answer to %s", part, op)
	case late:
		delayed()
		return failed(key.Ambiguous, "model: %s lost the answer to %s", part, op)
	}
	if w.now.Before(t.until) && !w.calm {
		if again := w.now.Add(throttleTime); t.throttled && t.until.Before(again) {
			t.until = again
		}
		return failed(t.class, "model: %s is out of order", part)
	}
	err := effect()
	if err != nil {
		w.log("%s %s: %v", part, op, err)
	}
	switch f {
	case crashAfter:
		panic(crash{})
	case lostAfter:
		if err == nil {
			err = failed(key.Ambiguous, "model: %s lost the answer to %s", part, op)
		}
	case overtaken:
		w.overtake()
	case interrupted:
		w.interrupt()
	}
	return err
}

func (w *World) strike(op string, faults []fault) fault {
	rate := w.rate
	if op == "Import" || op == "CreateKEK" || op == "Generate" {
		rate *= 4 // these calls are few, and they matter most
	}
	if w.calm || rate == 0 || w.rnd.Float64() >= rate {
		return ""
	}
	f := pick(w, faults)
	if f == overtaken && (len(w.daemons) < 2 || w.overtaking) {
		return ""
	}
	return f
}

// overtake lets the other daemon make some steps in the middle of a call.
func (w *World) overtake() {
	if w.overtaking {
		return
	}
	defer w.alive()
	w.overtaking = true
	was := w.acting
	defer func() { w.overtaking, w.acting = false, was }()
	for _, d := range w.daemons {
		if d == was || !d.acts() {
			continue
		}
		for range 1 + w.rnd.IntN(4) {
			if w.chance(4) {
				d.stepVault(pick(w, w.vaults))
			} else {
				d.step(pick(w, w.keys))
			}
		}
	}
}

// interrupt lets somebody meddle in the middle of a call. That may crash the calling
// daemon.
func (w *World) interrupt() {
	if w.overtaking || w.alone {
		return
	}
	w.overtaking = true
	was := w.acting
	defer func() { w.overtaking, w.acting = false, was }()
	w.meddle(w.rnd.IntN(amidCalls))
	if was != nil && was.down {
		panic(crash{})
	}
	w.acting = was
	w.alive()
}
