package stored

import (
	"context"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/term"
)

// Engine keeps the bytes of a store for several hosts. Any goroutine may call it. Every read shows what was committed
// last, whichever host committed it. Its errors are *EngineError, or one of this package's refusals wrapped.
type Engine interface {
	// Name says where the engine is, for errors, without a password: "PostgreSQL at db1,db2".
	Name() string
	// Tip is the end of the chain.
	Tip(ctx context.Context) (Tip, error)
	// Record returns the bytes of one record with the tip, as they were at one moment; nil for none.
	Record(ctx context.Context, name string) (value []byte, tip Tip, err error)
	// Heads returns the heads of all records by name, as they were at one moment with the tip.
	Heads(ctx context.Context) (map[string]Head, Tip, error)
	// Entries returns at most limit entries from a number on, in order.
	Entries(ctx context.Context, from uint64, limit int) ([]chain.Linked, error)
	// Commit makes a change, or nothing of it. Errors: ErrTip, ErrRecord, ErrEpoch (nothing happened);
	// *EngineError, Ambiguous if it may have happened; ErrSealed.
	Commit(ctx context.Context, c Change) error

	// Blob returns what PutBlob kept last under a name; nil for nothing. Blobs lists the names with a prefix, sorted.
	Blob(ctx context.Context, name string) ([]byte, error)
	Blobs(ctx context.Context, prefix string) ([]string, error)
	// PutBlob replaces a blob; an empty value removes it. Errors: ErrEpoch, ErrSealed.
	PutBlob(ctx context.Context, b Blob) error

	// Lease is who leads. Nobody may take it for proof that nobody else acts: epochs and deadlines are for that.
	Lease(ctx context.Context) (Lease, error)
	// Take makes a host the leader under a new epoch with the next number and this nonce, if the lease is over, was
	// released or is the host's own. Errors: ErrHeld, ErrSealed.
	Take(ctx context.Context, holder string, nonce [16]byte, ttl time.Duration) (Lease, error)
	// Renew has the lease of an epoch end after ttl from now. Errors: ErrEpoch when another one is in force, or the
	// lease is over.
	Renew(ctx context.Context, e term.Epoch, ttl time.Duration) (Lease, error)
	// Release ends the lease of an epoch, so that another host may lead at once. The epoch stays in force until then,
	// as it does when a lease is over. To release another epoch's lease changes nothing and is no error.
	Release(ctx context.Context, e term.Epoch) error

	// Seal has the engine refuse every change from now on, and say why; Sealed is that reason, "" for none.
	Seal(ctx context.Context, why string) error
	Sealed(ctx context.Context) (why string, err error)
	// Warnings says what an operator should see to now, such as a quota that is half used, or a missing standby.
	Warnings(ctx context.Context) ([]string, error)
	Close() error
}
