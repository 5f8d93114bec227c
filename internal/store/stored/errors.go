package stored

import (
	"errors"
	"fmt"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/term"
)

// ErrClosed is returned by every call after Close.
var ErrClosed = errors.New("the store is closed")

// ConflictError says that somebody else changed a record since it was loaded. Nothing was written: load it again and
// decide again.
type ConflictError struct {
	Key    string
	Had    uint64 // the revision that the caller loaded
	Stored uint64 // the revision in the store; 0: no record
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf(
		"record of %s: changed meanwhile (loaded at revision %d, stored is %d)",
		e.Key,
		e.Had,
		e.Stored,
	)
}

// Class is Retry.
func (e *ConflictError) Class() key.Class { return key.Retry }

// Changed is the key whose record changed.
func (e *ConflictError) Changed() string { return e.Key }

// EpochError says that a write came under the epoch of a term that is over. Nothing was written: another daemon leads,
// or this one does in a later term.
type EpochError struct {
	Had term.Epoch
	Now term.Epoch // zero if the store does not say
}

func (e *EpochError) Error() string {
	now := ""
	if !e.Now.IsZero() {
		now = fmt.Sprintf(", and the epoch in force is %s", e.Now)
	}
	return fmt.Sprintf("%v: this write is of epoch %s%s; nothing was changed", ErrEpoch, e.Had, now)
}

// Is reports that it is an ErrEpoch.
func (e *EpochError) Is(err error) bool { return err == ErrEpoch }

// Class is Retry: the daemon that leads now does it.
func (e *EpochError) Class() key.Class { return key.Retry }

// Unwritable says that to try again at once is no use.
func (e *EpochError) Unwritable() bool { return true }

// IsConflict reports whether what is in the store is the reason for refusing a write. The engine is not to blame.
func IsConflict(err error) bool {
	var changed *ConflictError
	var otherCase *key.CaseError
	return errors.As(err, &changed) || errors.As(err, &otherCase) || errors.Is(err, ErrEpoch)
}
