// Package shared is the store of an instance with several hosts, on an engine that its user already runs. Its rule: it
// decides what a change is, links it to the chain and finds out whether it happened; the engine only makes all of it or
// nothing of it.
package shared

import (
	"context"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

// Engine keeps the bytes of a store for several hosts. Any goroutine may call it. Every read shows what was committed
// last, whichever host committed it. Its errors are *stored.EngineError, or one of package stored's refusals wrapped.
type Engine interface {
	// Name says where the engine is, for errors, without a password: "PostgreSQL at db1,db2".
	Name() string
	// Tip is the end of the chain.
	Tip(ctx context.Context) (stored.Tip, error)
	// Record returns the bytes of one record with the tip, as they were at one moment; nil for none.
	Record(ctx context.Context, name string) (value []byte, tip stored.Tip, err error)
	// Heads returns the heads of all records by name, as they were at one moment with the tip.
	Heads(ctx context.Context) (map[string]stored.Head, stored.Tip, error)
	// Entries returns at most limit entries from a number on, in order.
	Entries(ctx context.Context, from uint64, limit int) ([]chain.Linked, error)
	// Commit makes a change, or nothing of it. Errors: stored.ErrTip, ErrRecord, ErrEpoch (nothing happened);
	// *stored.EngineError, Ambiguous if it may have happened.
	Commit(ctx context.Context, c stored.Change) error

	// Blob returns what PutBlob kept last under a name; nil for nothing. Blobs lists the names with a prefix.
	Blob(ctx context.Context, name string) ([]byte, error)
	Blobs(ctx context.Context, prefix string) ([]string, error)
	// PutBlob replaces a blob. Errors: stored.ErrEpoch.
	PutBlob(ctx context.Context, b stored.Blob) error

	// Lease is who leads. Nobody may take it for proof that nobody else acts: epochs and deadlines are for that.
	Lease(ctx context.Context) (stored.Lease, error)
	// Take makes a host the leader under a new epoch with the next number and this nonce, if the lease is over, was
	// released or is the host's own. Errors: stored.ErrHeld.
	Take(ctx context.Context, holder string, nonce [16]byte, ttl time.Duration) (stored.Lease, error)
	// Renew prolongs the lease of an epoch. Errors: stored.ErrEpoch when another one is in force, or the lease is over.
	Renew(ctx context.Context, e term.Epoch, ttl time.Duration) (stored.Lease, error)
	// Release ends the lease of an epoch, so that another host may lead at once. The epoch stays in force until then.
	Release(ctx context.Context, e term.Epoch) error

	// Seal has the engine refuse every change from now on, and say why; Sealed is that reason, "" for none.
	Seal(ctx context.Context, why string) error
	Sealed(ctx context.Context) (why string, err error)
	// Warnings says what an operator should see to now, such as a quota that is half used, or a missing standby.
	Warnings(ctx context.Context) ([]string, error)
	Close() error
}
