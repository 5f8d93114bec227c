package shared

import (
	"context"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

// callTime bounds one call of an engine, unless Options say otherwise.
const callTime = 5 * time.Second

// limited is an engine whose calls end, whatever its connection does.
type limited struct {
	stored.Engine
	time time.Duration
}

// call makes a call that ends.
func call[T any](ctx context.Context, e limited, fn func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, e.time)
	defer cancel()
	return fn(ctx)
}

// act is a call that returns nothing.
func act(ctx context.Context, e limited, fn func(context.Context) error) error {
	_, err := call(ctx, e, func(ctx context.Context) (struct{}, error) { return struct{}{}, fn(ctx) })
	return err
}

func (e limited) Tip(ctx context.Context) (stored.Tip, error) { return call(ctx, e, e.Engine.Tip) }

func (e limited) Record(ctx context.Context, name string) (value []byte, tip stored.Tip, err error) {
	value, err = call(ctx, e, func(ctx context.Context) (v []byte, err error) {
		v, tip, err = e.Engine.Record(ctx, name)
		return v, err
	})
	return value, tip, err
}

func (e limited) Heads(ctx context.Context) (heads map[string]stored.Head, tip stored.Tip, err error) {
	heads, err = call(ctx, e, func(ctx context.Context) (h map[string]stored.Head, err error) {
		h, tip, err = e.Engine.Heads(ctx)
		return h, err
	})
	return heads, tip, err
}

func (e limited) Entries(ctx context.Context, from uint64, limit int) ([]chain.Linked, error) {
	return call(ctx, e, func(ctx context.Context) ([]chain.Linked, error) { return e.Engine.Entries(ctx, from, limit) })
}

func (e limited) Commit(ctx context.Context, c stored.Change) error {
	return act(ctx, e, func(ctx context.Context) error { return e.Engine.Commit(ctx, c) })
}

func (e limited) Blob(ctx context.Context, name string) ([]byte, error) {
	return call(ctx, e, func(ctx context.Context) ([]byte, error) { return e.Engine.Blob(ctx, name) })
}

func (e limited) Blobs(ctx context.Context, prefix string) ([]string, error) {
	return call(ctx, e, func(ctx context.Context) ([]string, error) { return e.Engine.Blobs(ctx, prefix) })
}

func (e limited) PutBlob(ctx context.Context, b stored.Blob) error {
	return act(ctx, e, func(ctx context.Context) error { return e.Engine.PutBlob(ctx, b) })
}

func (e limited) Lease(ctx context.Context) (stored.Lease, error) {
	return call(ctx, e, e.Engine.Lease)
}

func (e limited) Take(
	ctx context.Context, holder string, nonce [16]byte, ttl time.Duration,
) (stored.Lease, error) {
	return call(ctx, e, func(ctx context.Context) (stored.Lease, error) {
		return e.Engine.Take(ctx, holder, nonce, ttl)
	})
}

func (e limited) Renew(ctx context.Context, epoch term.Epoch, ttl time.Duration) (stored.Lease, error) {
	return call(ctx, e, func(ctx context.Context) (stored.Lease, error) { return e.Engine.Renew(ctx, epoch, ttl) })
}

func (e limited) Release(ctx context.Context, epoch term.Epoch) error {
	return act(ctx, e, func(ctx context.Context) error { return e.Engine.Release(ctx, epoch) })
}
