package term

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// proofHolds is how long keyd trusts that it leads, counted from a save or from another proof.
const proofHolds = 2 * time.Second

// Effect is one act outside keyd whose intent is in the record: an import, a disabling, the making of a pair.
type Effect struct {
	What string // for people: "the import of generation 3 into contoso-weu"
	// Saved is just before the intent was saved, which proved that this daemon leads. Zero: no save of this daemon's
	// came before the effect.
	Saved Instant
	// Deadline is until when the effect may begin. A successor counts from the same wall time, which is in the record.
	Deadline Instant
	Clock    func() Instant // nil: Now
	// Prove returns nil if this daemon still leads. nil: no other daemon can lead.
	Prove func(context.Context) error
}

// LateError says that an effect was not begun any more. It certainly did not happen.
type LateError struct {
	What string
	Late time.Duration // how long after its deadline
	Err  error         // why this daemon may no longer lead; nil: the deadline is over
}

func (e *LateError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("keyd did not begin %s: it is not certain that this daemon still leads: %v", e.What, e.Err)
	}
	return fmt.Sprintf("keyd did not begin %s: its deadline was over for %s, because it waited too long, the process "+
		"or the host stood still, or a clock was set", e.What, e.Late.Round(time.Millisecond))
}

// Unwrap returns why this daemon may no longer lead.
func (e *LateError) Unwrap() error { return e.Err }

type effectKey struct{}

// underWay is an effect with what is learnt on the way.
type underWay struct {
	Effect
	proven atomic.Pointer[Instant] // when leadership was proven last, if that was after the save
}

// WithEffect has Check ask for this effect.
func WithEffect(ctx context.Context, e Effect) context.Context {
	if e.Clock == nil {
		e.Clock = Now
	}
	return context.WithValue(ctx, effectKey{}, &underWay{Effect: e})
}

func effectOf(ctx context.Context) *underWay {
	e, _ := ctx.Value(effectKey{}).(*underWay)
	return e
}

// Left is how long the effect in ctx may still wait, by the clock that says less; ok is false if there is no effect in
// it.
func Left(ctx context.Context) (d time.Duration, ok bool) {
	if e := effectOf(ctx); e != nil {
		return -e.Clock().Since(e.Deadline), true
	}
	return 0, false
}

// Check is called at the moment at which an effect begins, such as before the first byte of a request is written. It
// returns a *LateError if the effect must not begin any more: its deadline is over by one of the clocks, or its intent
// was saved a while ago and this daemon cannot prove that it still leads. What is no effect may always begin.
func Check(ctx context.Context) error {
	e := effectOf(ctx)
	if e == nil {
		return nil
	}
	for { // a proof that took long says how things were then
		now := e.Clock()
		if err := e.late(now); err != nil || e.Prove == nil || !e.stale(now) {
			return err
		}
		if err := e.Prove(ctx); err != nil {
			return &LateError{What: e.What, Err: err}
		}
		e.proven.Store(&now)
	}
}

func (e *underWay) late(now Instant) error {
	if d := now.Since(e.Deadline); d >= 0 {
		return &LateError{What: e.What, Late: d}
	}
	return nil
}

// stale reports whether leadership must be proven again. A wall clock that was set back proves nothing.
func (e *underWay) stale(now Instant) bool {
	last := e.Saved
	if p := e.proven.Load(); p != nil {
		last = *p
	}
	return last.Wall.IsZero() || now.Since(last) > proofHolds
}
