package key

import (
	"context"
	"errors"
)

// Class says what a failed call means for the next decision. The loop looks at nothing else in an error; the rest is
// for the operator.
type Class int

const (
	// Ambiguous: the effect may have happened, or may still happen. It is the zero value, because keyd must treat an
	// unclassified error as ambiguous.
	Ambiguous Class = iota
	// Retry: certainly no effect, and trying again later may succeed.
	Retry
	// Refused: certainly no effect, and the answer stays the same until a
	// person changes something.
	Refused
	// Fatal: the observation contradicts the record; keyd must hold the key.
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

// ClassOf returns the class of the first error in err's chain that has one. A bare context error does not show
// whether the call was sent before it stopped. So it is Ambiguous, like every unknown error.
func ClassOf(err error) Class {
	var c Classed
	if errors.As(err, &c) {
		return c.Class()
	}
	return Ambiguous
}

// IsCancelled reports whether err only says that keyd is stopping.
func IsCancelled(err error) bool { return errors.Is(err, context.Canceled) }
