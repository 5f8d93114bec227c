package key

import (
	"context"
	"errors"
)

// Class says what a failed call means for the decision that follows it. It is
// all that the loop knows of an error; the rest is for the operator.
type Class int

const (
	// Ambiguous: the effect may have happened, or may happen yet. The zero
	// value, because an error that nobody classified must be taken so.
	Ambiguous Class = iota
	// Retry: certainly no effect, and trying again later may succeed.
	Retry
	// Refused: certainly no effect, and the answer stays the same until a
	// person changes something.
	Refused
	// Fatal: what was seen contradicts the record; the key must be held.
	Fatal
)

func (c Class) String() string {
	switch c {
	case Retry:
		return "retry"
	case Refused:
		return "refused"
	case Fatal:
		return "fatal"
	default:
		return "ambiguous"
	}
}

// Classed is an error that knows its class. Rooms that produce errors implement
// it on their own typed errors.
type Classed interface {
	error
	Class() Class
}

// ClassOf returns the class of the first error in err's chain that has one. A
// call stopped before it was sent cannot be told from one stopped after, so a
// bare context error is Ambiguous, like every unknown error.
func ClassOf(err error) Class {
	var c Classed
	if errors.As(err, &c) {
		return c.Class()
	}
	return Ambiguous
}

// IsCancelled reports whether err is only the news that keyd is stopping.
func IsCancelled(err error) bool { return errors.Is(err, context.Canceled) }
