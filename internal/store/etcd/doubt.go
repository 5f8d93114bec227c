package etcd

import (
	"bytes"
	"context"
	"crypto/rand"
	"sync"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/keyd-project/keyd/internal/store/stored"
)

// doubt makes an end of changes that were not answered. Such a change may still be on its way, in a member that hangs,
// and be made long after keyd looked. So each change compares a key of its handle's own; to write another value there
// voids all changes that were sent before. What keyd reads then is final.
type doubt struct {
	key      string        // of this handle
	n        atomic.Uint64 // its value: how often it was written
	open     atomic.Bool   // a change was not answered
	settling sync.Mutex
}

func newDoubt() *doubt { return &doubt{key: "void/" + rand.Text()} }

// was is the value of the key, after it was written so many times.
func was(n uint64) []byte {
	if n == 0 {
		return nil
	}
	return stored.Number(n)
}

// settle returns after no change that this handle sent before can be made any more. It does nothing if each of them
// was answered.
func (e *Engine) settle(ctx context.Context) error {
	d := e.doubt
	d.settling.Lock()
	defer d.settling.Unlock()
	if !d.open.Load() {
		return nil
	}
	const doing = "find out whether a change was made"
	n := d.n.Load()
	var made bool
	err := e.read(ctx, doing, func(ctx context.Context) error {
		r, err := e.client.Txn(ctx).If(e.is(d.key, was(n))).Then(e.put(d.key, was(n+1))).Else(e.get(d.key)).Commit()
		if err == nil { // if it was not made, it may have been the time before, without an answer
			made = r.Succeeded || bytes.Equal(e.found(r).value(d.key), was(n+1))
		}
		return err
	})
	if err != nil {
		return err
	}
	if !made {
		return e.failed(doing, errVoid, false)
	}
	d.n.Store(n + 1)
	d.open.Store(false)
	return nil
}

// when is the comparison that voids a change.
func (d *doubt) when(e *Engine) (clientv3.Cmp, clientv3.Op) {
	return e.is(d.key, was(d.n.Load())), e.get(d.key)
}
