package etcd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

func (e *Engine) key(name string) string { return e.cfg.Prefix + name }

func (e *Engine) get(name string) clientv3.Op { return clientv3.OpGet(e.key(name)) }

func (e *Engine) put(name string, value []byte) clientv3.Op {
	return clientv3.OpPut(e.key(name), string(value))
}

// is compares a key by value; nil: it must not exist.
func (e *Engine) is(name string, value []byte) clientv3.Cmp {
	if value == nil {
		return clientv3.Compare(clientv3.CreateRevision(e.key(name)), "=", 0)
	}
	return clientv3.Compare(clientv3.Value(e.key(name)), "=", string(value))
}

func entryKey(seq uint64) string { return fmt.Sprintf("entry/%016x", seq) }

// encodeTip is a tip as it is stored; nil for an empty chain.
func encodeTip(t stored.Tip) []byte {
	if t == (stored.Tip{}) {
		return nil
	}
	return append(stored.Number(t.Seq), t.Hash[:]...)
}

func parseTip(value []byte) (t stored.Tip, err error) {
	switch len(value) {
	case 0:
		return t, nil
	case 8 + len(chain.Hash{}):
		return stored.Tip{Seq: binary.BigEndian.Uint64(value), Hash: chain.Hash(value[8:])}, nil
	}
	return t, errors.New("the tip is damaged")
}

// encodeHead is a record's head as it is stored; nil if there is to be no record.
func encodeHead(h stored.Head) []byte {
	if h == (stored.Head{}) {
		return nil
	}
	return append(h.Sum[:], stored.Number(h.Revision)...)
}

func encodeEpoch(e term.Epoch) []byte { return append(stored.Number(e.Number), e.Nonce[:]...) }

func parseEpoch(value []byte) (e term.Epoch, err error) {
	switch len(value) {
	case 0:
		return e, nil
	case 24:
		return term.Epoch{Number: binary.BigEndian.Uint64(value), Nonce: [16]byte(value[8:])}, nil
	}
	return e, errors.New("the epoch is damaged")
}

// found is what a transaction read, in order.
type found struct {
	prefix string
	kvs    []*mvccpb.KeyValue
}

func (e *Engine) found(r *clientv3.TxnResponse) found {
	f := found{prefix: e.cfg.Prefix}
	for _, one := range r.Responses {
		f.kvs = append(f.kvs, one.GetResponseRange().GetKvs()...)
	}
	return f
}

// value is what a key has; nil if it does not exist.
func (f found) value(name string) []byte {
	for _, kv := range f.kvs {
		if string(kv.Key) == f.prefix+name {
			return append([]byte{}, kv.Value...)
		}
	}
	return nil
}

// under calls fn with what is under a name, in order.
func (f found) under(name string, fn func(rest string, value []byte) error) error {
	for _, kv := range f.kvs {
		if rest, ok := strings.CutPrefix(string(kv.Key), f.prefix+name); ok {
			if err := fn(rest, kv.Value); err != nil {
				return err
			}
		}
	}
	return nil
}

// look reads several keys as they are at one moment, after all that was committed before.
func (e *Engine) look(ctx context.Context, doing string, ops ...clientv3.Op) (f found, err error) {
	err = e.read(ctx, doing, func(ctx context.Context) error {
		r, err := e.client.Txn(ctx).Then(ops...).Commit()
		if err == nil {
			f = e.found(r)
		}
		return err
	})
	return f, err
}

// change is one transaction.
type change struct {
	doing string
	when  []clientv3.Cmp
	then  []clientv3.Op
	ask   []clientv3.Op // what to read if a comparison fails

	key   string // it writes this value here, by which it is recognised
	value []byte
}

// try makes a change. It returns nil if it was made, and what was asked for if a comparison failed.
//
// etcd also says that it is full after it made a change, if others filled it meanwhile. So only a look tells.
func (e *Engine) try(ctx context.Context, c change) (refusal *found, err error) {
	err = e.write(ctx, c.doing, func(ctx context.Context) error {
		r, err := e.client.Txn(ctx).If(c.when...).Then(c.then...).Else(c.ask...).Commit()
		if err == nil && !r.Succeeded {
			f := e.found(r)
			refusal = &f
		}
		return err
	})
	if errors.Is(err, rpctypes.ErrNoSpace) {
		now, unknown := e.look(ctx, c.doing, e.get(c.key))
		if got := now.value(c.key); unknown == nil && bytes.Equal(got, c.value) && (got == nil) == (c.value == nil) {
			return nil, nil
		} else if unknown == nil {
			return nil, certain(err)
		}
	}
	if failed := (&stored.EngineError{}); errors.As(err, &failed) && failed.Ambiguous {
		e.doubt.open.Store(true)
	}
	return refusal, err
}
