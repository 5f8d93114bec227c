package consumer

import (
	"context"
	"errors"
	"net/url"

	"github.com/keyd-project/keyd/internal/key"
)

// Reason returns why Azure did not show what keyd asked for. What a resource itself says is wrong has no reason of the
// closed set.
func (e *Error) Reason() key.Reason {
	var cause interface{ Reason() key.Reason }
	var bad *badAnswer
	var way *url.Error
	switch {
	case errors.As(e.err, &cause):
		return cause.Reason()
	case errors.As(e.err, &bad):
		return key.BadAnswer
	case e.Status == 0 && (errors.As(e.err, &way) || errors.Is(e.err, context.DeadlineExceeded)):
		return key.NoAnswer
	}
	return key.ReasonOfStatus(e.Status)
}
