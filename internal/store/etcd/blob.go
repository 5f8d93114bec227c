package etcd

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/keyd-project/keyd/internal/store/stored"
)

// Blob returns what PutBlob kept last under a name; nil for nothing.
func (e *Engine) Blob(ctx context.Context, name string) ([]byte, error) {
	found, err := e.look(ctx, "read "+name, e.get("blob/"+name))
	return found.value("blob/" + name), err
}

// Blobs lists the names with a prefix, sorted.
func (e *Engine) Blobs(ctx context.Context, prefix string) (names []string, err error) {
	found, err := e.look(ctx, "list what begins with "+prefix,
		clientv3.OpGet(e.key("blob/"+prefix), clientv3.WithPrefix(), clientv3.WithKeysOnly()))
	if err != nil {
		return nil, err
	}
	err = found.under("blob/", func(name string, _ []byte) error {
		names = append(names, name)
		return nil
	})
	return names, err
}

// PutBlob replaces a blob; an empty value removes it. Blobs of several parts are the caller's business: the largest
// has stored.MaxBlob bytes.
func (e *Engine) PutBlob(ctx context.Context, b stored.Blob) error {
	doing := "keep " + b.Name
	if len(b.Value) > stored.MaxBlob {
		return e.failed(doing, fmt.Errorf("it has %d bytes, and the store keeps at most %d", len(b.Value),
			stored.MaxBlob), false)
	}
	c := change{doing: doing, key: "blob/" + b.Name, value: b.Value}
	c.then = []clientv3.Op{e.put(c.key, b.Value)}
	if len(b.Value) == 0 {
		c.value, c.then = nil, []clientv3.Op{clientv3.OpDelete(e.key(c.key))}
	}
	refusal, err := e.try(ctx, e.guarded(c, b.Epoch))
	if err != nil || refusal == nil {
		return err
	}
	if err := e.guardFailed(b.Epoch, *refusal); err != nil {
		return err
	}
	return e.failed(doing, errVoid, false)
}

// Seal has the store refuse every change from now on, and say why.
func (e *Engine) Seal(ctx context.Context, why string) error {
	_, err := e.try(ctx, change{doing: "seal the store", key: "sealed", value: []byte(why),
		then: []clientv3.Op{e.put("sealed", []byte(why))}})
	return err
}

// Sealed is why the store takes no changes, "" if it does.
func (e *Engine) Sealed(ctx context.Context) (why string, err error) {
	found, err := e.look(ctx, "read whether the store is sealed", e.get("sealed"))
	return string(found.value("sealed")), err
}
