package etcd

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// Tip is the end of the chain. After a change that was not answered, it is final: that change is in the chain that it
// ends, or is never made.
func (e *Engine) Tip(ctx context.Context) (stored.Tip, error) {
	const doing = "read the end of the chain"
	if err := e.settle(ctx); err != nil {
		return stored.Tip{}, err
	}
	found, err := e.look(ctx, doing, e.get("tip"))
	if err != nil {
		return stored.Tip{}, err
	}
	return e.tipOf(found, doing)
}

func (e *Engine) tipOf(f found, doing string) (stored.Tip, error) {
	t, err := parseTip(f.value("tip"))
	if err != nil {
		return t, e.failed(doing, err, false)
	}
	return t, nil
}

// Record returns the bytes of one record with the tip, as they were at one moment; nil for none.
func (e *Engine) Record(ctx context.Context, name string) (value []byte, t stored.Tip, err error) {
	doing := "read the record of " + name
	found, err := e.look(ctx, doing, e.get("record/"+name), e.get("tip"))
	if err != nil {
		return nil, t, err
	}
	t, err = e.tipOf(found, doing)
	return found.value("record/" + name), t, err
}

// Heads returns the heads of all records by name, as they were at one moment with the tip.
func (e *Engine) Heads(ctx context.Context) (map[string]stored.Head, stored.Tip, error) {
	const doing = "read the heads of all records"
	found, err := e.look(ctx, doing, e.get("tip"), clientv3.OpGet(e.key("head/"), clientv3.WithPrefix()))
	if err != nil {
		return nil, stored.Tip{}, err
	}
	heads := map[string]stored.Head{}
	err = found.under("head/", func(name string, value []byte) error {
		head, err := stored.ParseHead(name, value)
		heads[name] = head
		return err
	})
	if err != nil {
		return nil, stored.Tip{}, e.failed(doing, err, false)
	}
	t, err := e.tipOf(found, doing)
	return heads, t, err
}

// Entries returns at most limit entries from a number on, in order. It reads all pages at the revision of the first
// one. When etcd has compacted that away meanwhile, it goes on at the newest: an entry never changes. It is as final as
// Tip.
func (e *Engine) Entries(ctx context.Context, from uint64, limit int) (entries []chain.Linked, err error) {
	if err := e.settle(ctx); err != nil {
		return nil, err
	}
	end, revision := clientv3.GetPrefixRangeEnd(e.key("entry/")), int64(0)
	for next := max(from, 1); len(entries) < limit; {
		doing := fmt.Sprintf("read the chain from entry %d on", next)
		var got *clientv3.GetResponse
		err := e.read(ctx, doing, func(ctx context.Context) (err error) {
			got, err = e.client.Get(ctx, e.key(entryKey(next)), clientv3.WithRange(end), clientv3.WithRev(revision),
				clientv3.WithLimit(int64(min(e.page, limit-len(entries)))))
			return err
		})
		if errors.Is(err, rpctypes.ErrCompacted) && revision != 0 {
			revision = 0
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, kv := range got.Kvs {
			l, err := parseEntry(strings.TrimPrefix(string(kv.Key), e.key("entry/")), kv.Value)
			if err != nil {
				return nil, e.failed(doing, err, false)
			}
			entries, next = append(entries, l), l.Seq+1
		}
		if !got.More {
			break
		}
		if revision == 0 {
			revision = got.Header.Revision
		}
	}
	return entries, nil
}

func parseEntry(number string, value []byte) (chain.Linked, error) {
	seq, err := hex.DecodeString(number)
	if err != nil || len(seq) != 8 {
		return chain.Linked{}, fmt.Errorf("%q is no number of an entry", number)
	}
	l, err := stored.ParseEntry(seq, value)
	if err != nil {
		return l, fmt.Errorf("entry %d: %w", binary.BigEndian.Uint64(seq), err)
	}
	return l, nil
}
