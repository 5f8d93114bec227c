package control

import (
	"errors"
	"fmt"
	"net/http"
)

// ErrUnreachable says that no daemon answers on the socket.
var ErrUnreachable = errors.New("the keyd daemon cannot be reached")

// RefusedError says that the daemon may not or will not do this for the peer.
type RefusedError struct{ Text string }

func (e *RefusedError) Error() string { return e.Text }

// UsageError says that the request is wrong, for example names an unknown key.
type UsageError struct{ Text string }

func (e *UsageError) Error() string { return e.Text }

// failure is an error on the wire.
type failure struct {
	Kind string `json:"kind"` // see the kinds
	Text string `json:"error"`
}

// The kinds of failure, which are also the values of the metrics' result label.
const (
	kindOK      = "ok"
	kindFailed  = "failed"
	kindUsage   = "usage"
	kindRefused = "refused"
	kindWaits   = "proposed"
)

func failureOf(err error) failure {
	var refused *RefusedError
	var usage *UsageError
	var proposed *ProposedError
	switch {
	case errors.As(err, &proposed):
		return failure{kindWaits, err.Error()}
	case errors.As(err, &refused):
		return failure{kindRefused, err.Error()}
	case errors.As(err, &usage):
		return failure{kindUsage, err.Error()}
	default:
		return failure{kindFailed, err.Error()}
	}
}

func (f failure) status() int {
	switch f.Kind {
	case kindRefused:
		return http.StatusForbidden
	case kindWaits:
		return http.StatusAccepted
	case kindUsage:
		return http.StatusBadRequest
	default:
		return http.StatusInternalServerError
	}
}

// err converts the failure into the client's error.
func (f failure) err() error {
	switch f.Kind {
	case kindRefused:
		return &RefusedError{f.Text}
	case kindWaits:
		return &ProposedError{f.Text}
	case kindUsage:
		return &UsageError{f.Text}
	default:
		return errors.New(f.Text)
	}
}

// tooLong refuses a request that is longer than so many bytes.
func tooLong(most int64) error {
	return &UsageError{
		fmt.Sprintf("the request is longer than %d bytes: write a shorter reason, or name fewer keys at once", most),
	}
}
