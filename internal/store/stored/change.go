package stored

import (
	"errors"
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/term"
)

// What every engine takes in one change, and in one blob. An engine may refuse more, before it sends anything.
const (
	MaxChange  = 1 << 20 // bytes of all records and entries together (1 MiB)
	MaxRecords = 64
	MaxEntries = 1000
	MaxBlob    = 1 << 20 // bytes (1 MiB)
)

// Tip is the newest entry of a shared store's chain; zero for an empty one.
type Tip struct {
	Seq  uint64
	Hash chain.Hash
}

// Change is one change of a shared store: an engine makes all of it or nothing of it.
type Change struct {
	Tip     Tip         // the chain must end with it
	Epoch   *term.Epoch // must be in force; nil: the change is anybody's
	Records []Changed
	Entries []chain.Linked // at least one; they follow Tip
}

// Changed is a record that a change replaces.
type Changed struct {
	Name  string
	Was   Head   // must be stored; zero: no record of that name may be
	Value []byte // Record.Encode
}

// Size is what counts for MaxChange.
func (c Change) Size() int {
	n := 0
	for _, r := range c.Records {
		n += len(r.Value)
	}
	for _, l := range c.Entries {
		n += 2*len(l.Hash) + len(l.Body)
	}
	return n
}

// Blob is what a store keeps outside the chain.
type Blob struct {
	Name  string
	Value []byte
	Epoch *term.Epoch // must be in force; nil: the blob is anybody's
}

// Lease is who leads, by the engine's own clock.
type Lease struct {
	Epoch  term.Epoch    // zero: nobody led yet
	Holder string        // the host's name
	Since  time.Time     // by the engine's clock
	Left   time.Duration // how long the lease still holds; 0 or less: it is over
	Now    time.Time     // the engine's clock
}

// What a change was refused for. The engine certainly changed nothing.
var (
	// ErrTip says that the chain ends with another entry: link anew and try again.
	ErrTip = errors.New("the chain has moved on")
	// ErrRecord says that a record is not the one that was loaded.
	ErrRecord = errors.New("the record was changed meanwhile")
	// ErrEpoch says that another term has begun.
	ErrEpoch = errors.New("another daemon leads now")
	// ErrSealed says that the store was moved elsewhere; the error that wraps it says where.
	ErrSealed = errors.New("the store takes no changes any more")
	// ErrHeld says that another host holds the lease.
	ErrHeld = errors.New("another host holds the lease")
)

// EngineError says that an engine did not do what it was asked for, or that it is not known whether it did.
type EngineError struct {
	Engine    string // such as "PostgreSQL at db1"; without a password
	Doing     string // such as "save a change"
	Err       error
	Ambiguous bool // whether it happened is not known
}

func (e *EngineError) Error() string {
	if e.Ambiguous {
		return fmt.Sprintf("%s: %s: %v; keyd looks up whether it happened before it goes on", e.Engine, e.Doing, e.Err)
	}
	return fmt.Sprintf("%s: %s: %v; nothing was changed", e.Engine, e.Doing, e.Err)
}

func (e *EngineError) Unwrap() error { return e.Err }

// Class is Ambiguous if it may have happened, and otherwise Retry.
func (e *EngineError) Class() key.Class {
	if e.Ambiguous {
		return key.Ambiguous
	}
	return key.Retry
}

// Unwritable says that the engine is to blame, and not another change: to try again at once is no use.
func (e *EngineError) Unwritable() bool { return true }
