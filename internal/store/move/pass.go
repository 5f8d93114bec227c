package move

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/store/bolt"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// page is how many entries are read at once.
const page = 500

// pass copies what the old store has more than the new one, in the order of the chain, each record together with the
// entry that it was saved with last. missing counts the records that changed meanwhile: the next pass copies them.
func (m *mover) pass(ctx context.Context) (missing int, err error) {
	heads, end, err := m.from.Heads(ctx)
	if err != nil {
		return 0, err
	}
	there, tip, err := m.to.Heads(ctx)
	if err != nil {
		return 0, err
	}
	last := map[uint64]string{} // by the number of the entry that a record was saved with
	for name, h := range heads {
		last[h.Revision] = name
	}
	c := stored.Change{Tip: tip}
	for next := tip.Seq + 1; next <= end.Seq; {
		if err := m.renew(ctx); err != nil {
			return 0, err
		}
		entries, err := m.from.Entries(ctx, next, page)
		if err != nil {
			return 0, err
		}
		if len(entries) == 0 || entries[0].Seq != next {
			return 0, fmt.Errorf("entry %d is missing in %s", next, m.from.Name())
		}
		for _, l := range entries {
			if l.Seq > end.Seq {
				break
			}
			record, err := m.savedWith(ctx, l, last, there)
			if err != nil {
				return 0, err
			}
			if last[l.Seq] != "" && record == nil {
				missing++
			}
			if c, err = m.add(ctx, c, l, record); err != nil {
				return 0, err
			}
			next = l.Seq + 1
		}
	}
	return missing, m.commit(ctx, c)
}

// savedWith is the record that was saved with an entry; nil for none, or if it has changed since.
func (m *mover) savedWith(
	ctx context.Context, l chain.Linked, last map[uint64]string, there map[string]stored.Head,
) (*stored.Changed, error) {
	name := last[l.Seq]
	if name == "" {
		return nil, nil
	}
	value, _, err := m.from.Record(ctx, name)
	if err != nil {
		return nil, err
	}
	h, err := stored.ParseHead(name, value)
	if err != nil || h.Revision != l.Seq {
		return nil, err
	}
	return &stored.Changed{Name: name, Was: there[name], Value: value}, nil
}

// add puts an entry and its record into a change, and commits the change first where it is full.
func (m *mover) add(ctx context.Context, c stored.Change, l chain.Linked, r *stored.Changed) (stored.Change, error) {
	more := stored.Change{Entries: []chain.Linked{l}}
	if r != nil {
		more.Records = []stored.Changed{*r}
	}
	full := len(c.Entries) >= page || len(c.Records) >= stored.MaxRecords || c.Size()+more.Size() > stored.MaxChange
	if full && len(c.Entries) > 0 {
		if err := m.commit(ctx, c); err != nil {
			return c, err
		}
		end := c.Entries[len(c.Entries)-1]
		c = stored.Change{Tip: stored.Tip{Seq: end.Seq, Hash: end.Hash}}
	}
	c.Entries, c.Records = append(c.Entries, more.Entries...), append(c.Records, more.Records...)
	return c, nil
}

// commit makes a change in the new store. One whose answer was lost is found there or not by the next copy.
func (m *mover) commit(ctx context.Context, c stored.Change) error {
	if len(c.Entries) == 0 {
		return nil
	}
	c.Epoch = m.epoch()
	return m.to.Commit(ctx, c)
}

// verify walks a whole store, as stored.Verifier says. It calls tick for each page.
func verify(ctx context.Context, s Side, tick func(context.Context) error) (chain.Report, error) {
	v := stored.NewVerifier()
	for next := uint64(1); ; {
		if err := tick(ctx); err != nil {
			return chain.Report{}, err
		}
		entries, err := s.Entries(ctx, next, page)
		if err != nil {
			return chain.Report{}, err
		}
		for _, l := range entries {
			v.Entry(stored.Number(l.Seq), stored.EncodeEntry(l))
			next = l.Seq + 1
		}
		if len(entries) < page {
			break
		}
	}
	heads, _, err := s.Heads(ctx)
	if err != nil {
		return chain.Report{}, err
	}
	for _, name := range slices.Sorted(maps.Keys(heads)) {
		value, _, err := s.Record(ctx, name)
		if err != nil {
			return chain.Report{}, err
		}
		v.Record(name, value)
	}
	ledgers, err := s.Ledgers(ctx)
	if err != nil {
		return chain.Report{}, err
	}
	for _, name := range slices.Sorted(maps.Keys(ledgers)) {
		v.Ledger(name, ledgers[name])
	}
	return v.Report(), nil
}

// Backup writes a store into a new state file, while work goes on.
func Backup(ctx context.Context, from Side, path string) (err error) {
	r, err := bolt.NewRawFile(path)
	if err != nil {
		return err
	}
	m := &mover{from: from, to: file{r}}
	return errors.Join(m.copyAll(ctx), r.Close())
}
