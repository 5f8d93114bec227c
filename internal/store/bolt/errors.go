package bolt

import (
	"fmt"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// LockedError says that another process has the file open.
type LockedError struct{ Path string }

func (e *LockedError) Error() string {
	return fmt.Sprintf("another keyd has the state in %s open: one daemon per state directory; "+
		"see `systemctl status keyd`, or `fuser %s` for the process", e.Path, e.Path)
}

// Class is Refused: only the end of the other process helps.
func (e *LockedError) Class() key.Class { return key.Refused }

// CorruptError says that the file does not hold what keyd wrote into it.
type CorruptError struct {
	Path string
	What string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("the state in %s is damaged: %s. Nothing was changed. Stop keyd, keep the file aside, "+
		"put the last file of `keyd backup` in its place and run `keyd adopt KEY` for what is newer than it", e.Path,
		e.What)
}

// Class is Refused.
func (e *CorruptError) Class() key.Class { return key.Refused }

// SchemaError says that a newer keyd wrote the file.
type SchemaError struct {
	Path         string
	Found, Known int
}

func (e *SchemaError) Error() string {
	return fmt.Sprintf("the state in %s has schema %d and this keyd knows up to %d: install the newer keyd again, "+
		"or put the copy that it made before its migration in place", e.Path, e.Found, e.Known)
}

// Class is Refused.
func (e *SchemaError) Class() key.Class { return key.Refused }

// WriteError says that a transaction could not be written, for example because the disk is full.
type WriteError struct {
	Path  string
	Err   error
	class key.Class
}

func (e *WriteError) Error() string {
	if e.class == key.Retry {
		return fmt.Sprintf("write %s: %v; nothing was changed: look at the disk's space and health", e.Path, e.Err)
	}
	return fmt.Sprintf("write %s: %v; whether it is on the disk is not known and is looked up before the next use: "+
		"look at the disk's health", e.Path, e.Err)
}

func (e *WriteError) Unwrap() error { return e.Err }

// Unwritable says that the disk is to blame, and not another change: to try again at once is no use.
func (e *WriteError) Unwritable() bool { return true }

// Class is Retry if nothing was changed, and Ambiguous if that is uncertain.
func (e *WriteError) Class() key.Class { return e.class }

// SealedError says that the state was moved elsewhere, and where.
type SealedError struct{ Path, Why string }

func (e *SealedError) Error() string {
	return fmt.Sprintf("the state in %s takes no changes any more: %s. Put the store that it names into the "+
		"configuration; keyd audit --state %[1]s still reads it", e.Path, e.Why)
}

// Is reports that it is a stored.ErrSealed.
func (e *SealedError) Is(err error) bool { return err == stored.ErrSealed }

// Class is Refused.
func (e *SealedError) Class() key.Class { return key.Refused }
