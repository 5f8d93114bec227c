package consumer

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/vault"
)

var errChanging = errors.New("a change of it is under way, and keyd waits for the end of that")

// MoveError is a move that failed.
type MoveError struct {
	Move  Move
	class key.Class
	err   error
}

// Error is one line.
func (e *MoveError) Error() string {
	to := e.Move.Version
	if e.Move.NewKey != "" {
		to = "key " + e.Move.NewKey
	}
	return fmt.Sprintf("move %s from %s to %s: %v", nameOf(e.Move.ID), e.Move.of(), to, e.err)
}

// of is what the resource moves from: "version V of KEY", or "key KEY" if it follows.
func (m Move) of() string {
	if m.From == "" {
		return "key " + m.Key
	}
	return fmt.Sprintf("version %s of %s", m.From, m.Key)
}

// left is of with the vault.
func (m Move) left() string { return m.of() + " in " + m.Vault }

// Unwrap returns the cause.
func (e *MoveError) Unwrap() error { return e.err }

// Class says whether the service did it.
func (e *MoveError) Class() key.Class { return e.class }

func (m Move) failed(class key.Class, err error) error { return &MoveError{m, class, err} }

func (m Move) refuse(format string, args ...any) error {
	return m.failed(key.Refused, fmt.Errorf(format, args...))
}

// classOfLook is what a failed look means for a move: nothing was sent.
func classOfLook(err error) key.Class {
	if class, ok := vault.SignInClass(err); ok {
		return class
	}
	var nonsense *badAnswer
	var e *Error
	switch {
	case errors.As(err, &nonsense):
		return key.Refused
	case errors.As(err, &e) && e.Status != 0 && !temporary(e.Status):
		return key.Refused
	}
	return key.Retry
}

// temporary reports whether a request that was certainly not taken may be later. Whoever changed the resource in the
// meantime, or is about to (409, 412), is done by then.
func temporary(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusRequestTimeout, http.StatusConflict, http.StatusPreconditionFailed,
		http.StatusTooManyRequests:
		return true
	}
	return status >= 500
}

// classOfWrite is what a failed write means. maybe: Resource Manager may have taken it.
func classOfWrite(err error, maybe bool) key.Class {
	if class, ok := vault.SignInClass(err); ok && !maybe {
		return class
	}
	var e *Error
	switch {
	case !maybe:
		return key.Retry
	case !errors.As(err, &e) || e.Code == "": // not in Azure's form: whoever answered, it may have been taken
		return key.Ambiguous
	case e.Status >= 400 && e.Status < 500 && e.Status != http.StatusRequestTimeout:
		if temporary(e.Status) {
			return key.Retry
		}
		return key.Refused
	}
	return key.Ambiguous
}

// classOfFirst is what it means that a key could not be made known to a server. The server still uses the version of
// before, and the same request may be sent again: it says the whole of what it wants.
func classOfFirst(err error) key.Class {
	if isStated(err) {
		return key.Refused
	}
	return classOfLook(err)
}

// operationFailed is an operation of which Azure says that it failed.
type operationFailed struct{ code, message string }

func (e *operationFailed) Error() string {
	return fmt.Sprintf("Azure began the change, and says that it failed: %s %s", e.code, e.message)
}

// isStated reports whether Azure itself says that the change failed. An operation that cannot be asked about may still
// succeed.
func isStated(err error) bool {
	var stated *operationFailed
	return errors.As(err, &stated)
}
