package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

// What etcd takes by default. A request has some bytes more than what is written: its keys, twice at most.
const (
	maxRequest = 1536 << 10
	maxOps     = 128
	perOp      = 64 // bytes of a request for one operation, besides key and value
)

// Commit makes a change, or nothing of it, in one transaction.
func (e *Engine) Commit(ctx context.Context, c stored.Change) error {
	const doing = "save a change"
	if len(c.Entries) == 0 {
		return e.failed(doing, errors.New("it has no entry for the chain"), false)
	}
	last := c.Entries[len(c.Entries)-1]
	tip := encodeTip(stored.Tip{Seq: last.Seq, Hash: last.Hash})
	t := e.guarded(change{doing: doing, key: entryKey(last.Seq), value: stored.EncodeEntry(last)}, c.Epoch)
	t.when, t.ask = append(t.when, e.is("tip", encodeTip(c.Tip))), append(t.ask, e.get("tip"))
	t.then = append(t.then, e.put("tip", tip))
	for _, r := range c.Records {
		head, err := stored.ParseHead(r.Name, r.Value)
		if err != nil {
			return e.failed(doing, err, false)
		}
		t.when = append(t.when, e.is("head/"+r.Name, encodeHead(r.Was)))
		t.ask = append(t.ask, e.get("head/"+r.Name))
		t.then = append(t.then, e.put("head/"+r.Name, encodeHead(head)), e.put("record/"+r.Name, r.Value))
	}
	for _, l := range c.Entries {
		t.then = append(t.then, e.put(entryKey(l.Seq), stored.EncodeEntry(l)))
	}
	t, err := t.fit()
	if err != nil {
		err = fmt.Errorf("%d records and %d entries: %w", len(c.Records), len(c.Entries), err)
		return e.failed(doing, err, false)
	}
	refusal, err := e.try(ctx, t)
	if err != nil || refusal == nil {
		return err
	}
	return e.whyNot(c, *refusal)
}

// errVoid is why a change was not made that was on its way when this handle settled another one.
var errVoid = errors.New("keyd voided it, when it settled a change that was not answered; try again")

// guarded has a change need that it was not voided, that the store is not sealed, and that the epoch is in force, if
// there is one.
func (e *Engine) guarded(c change, epoch *term.Epoch) change {
	cmp, get := e.doubt.when(e)
	c.when, c.ask = append(c.when, cmp), append(c.ask, get)
	c.when, c.ask = append(c.when, e.is("sealed", nil)), append(c.ask, e.get("sealed"))
	if epoch != nil {
		c.when, c.ask = append(c.when, e.is("epoch", encodeEpoch(*epoch))), append(c.ask, e.get("epoch"))
	}
	return c
}

// whyNot says which of a change's comparisons failed.
func (e *Engine) whyNot(c stored.Change, f found) error {
	if err := e.guardFailed(c.Epoch, f); err != nil {
		return err
	}
	if string(f.value("tip")) != string(encodeTip(c.Tip)) {
		return fmt.Errorf("%s: %w", e.Name(), stored.ErrTip)
	}
	for _, r := range c.Records {
		if string(f.value("head/"+r.Name)) != string(encodeHead(r.Was)) {
			return fmt.Errorf("%s: %s: %w", e.Name(), r.Name, stored.ErrRecord)
		}
	}
	return e.failed("save a change", errVoid, false)
}

// guardFailed says whether it is the seal or the epoch that a change was refused for.
func (e *Engine) guardFailed(epoch *term.Epoch, f found) error {
	if why := f.value("sealed"); why != nil {
		return fmt.Errorf("%s: %w: %s", e.Name(), stored.ErrSealed, why)
	}
	if epoch != nil && string(f.value("epoch")) != string(encodeEpoch(*epoch)) {
		return fmt.Errorf("%s: %w", e.Name(), stored.ErrEpoch)
	}
	return nil
}

// fit makes nested transactions of what is written, because etcd counts operations along each way through them. It
// refuses what is too large.
func (c change) fit() (change, error) {
	size := 0
	for _, op := range c.then {
		size += len(op.KeyBytes()) + len(op.ValueBytes()) + perOp
	}
	for _, cmp := range c.when {
		size += 2*len(cmp.KeyBytes()) + len(cmp.ValueBytes()) + perOp // compared, and read when it differs
	}
	if size > maxRequest {
		return c, fmt.Errorf("that is a request of %d bytes, and etcd takes at most %d", size, maxRequest)
	}
	if len(c.then) <= maxOps {
		return c, nil
	}
	outer := max(len(c.when), len(c.ask)) // its operations and those of an inner one count together
	inner := func() int { return (len(c.then) + maxOps - outer - 1) / (maxOps - outer) }
	for outer < maxOps-1 && inner() > outer {
		outer++
	}
	if outer >= maxOps || inner() > outer {
		return c, fmt.Errorf("that is %d comparisons and %d writes: more operations than etcd takes at once",
			len(c.when), len(c.then))
	}
	var groups []clientv3.Op
	for group := range slices.Chunk(c.then, maxOps-outer) {
		groups = append(groups, clientv3.OpTxn(nil, group, nil))
	}
	c.then = groups
	return c, nil
}
