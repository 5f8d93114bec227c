package shared

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/store/bolt"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

// Backup writes a consistent copy of the whole store to w, as the file of a store on one host, while work goes on. It
// holds records and chain byte for byte.
func (s *Store) Backup(ctx context.Context, w io.Writer) (err error) {
	dir, err := os.MkdirTemp(s.dir, ".backup-*") // mode 0700
	if err != nil {
		return fmt.Errorf("back up %s: %w", s.engine.Name(), err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "keyd.db")
	if err := bolt.CopyFile(ctx, path, s); err != nil {
		return fmt.Errorf("back up %s: %w", s.engine.Name(), err)
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("back up %s: %w", s.engine.Name(), err)
	}
	_, err = io.Copy(w, f)
	return errors.Join(err, f.Close())
}

// copyTime bounds one call of an engine during a copy, for which nobody waits.
const copyTime = time.Minute

// Fill copies what another store holds, and an engine lacks, byte for byte, as it is at one moment although hosts may
// go on writing to it. What the engine has already must be the beginning of it. Nobody else may write to the engine:
// it is done under the epoch of ctx, if there is one.
//
// Each record comes with the entry that covers it. So a copy that was cut short is a store whose chain ends early, and
// that Verify finds consistent; Fill goes on with it.
func Fill(ctx context.Context, engine stored.Engine, from stored.Walker) error {
	heads, tip, err := engine.Heads(ctx)
	if err != nil {
		return err
	}
	first := &moment{records: map[string][]byte{}}
	if err := from.Walk(ctx, first); err != nil {
		return err
	}
	f := &filling{ctx: ctx, engine: limited{engine, copyTime}, moment: *first, had: tip, heads: heads,
		change: stored.Change{Tip: tip}}
	if err := from.Walk(ctx, f); err != nil {
		return err
	}
	if err := f.commit(); err != nil {
		return err
	}
	if f.end < tip.Seq {
		return anotherChain(engine, tip)
	}
	if len(f.records) > 0 {
		return fmt.Errorf(
			"%d records have no entry in the chain that covers them: run keyd audit verify",
			len(f.records),
		)
	}
	return nil
}

func anotherChain(engine stored.Engine, had stored.Tip) error {
	return fmt.Errorf(
		"%s has a chain of its own, with %d audit entries; copy to an empty store",
		engine.Name(),
		had.Seq,
	)
}

// moment is what a store held when a walk through it ended.
type moment struct {
	end     uint64            // of the chain
	records map[string][]byte // that were not copied yet
}

func (m *moment) Entry(l chain.Linked) error {
	m.end = l.Seq
	return nil
}

func (m *moment) Record(name string, value []byte) error {
	m.records[name] = bytes.Clone(value)
	return nil
}

func (m *moment) Ledger(string, []byte) error { return nil }

// filling commits what it is shown, as much at a time as every engine takes.
type filling struct {
	moment
	ctx    context.Context
	engine stored.Engine
	had    stored.Tip             // of the engine, before
	heads  map[string]stored.Head // of its records then
	change stored.Change
	size   int
}

func (f *filling) Entry(l chain.Linked) error {
	switch {
	case l.Seq > f.end: // it came after the moment
		return nil
	case l.Seq == f.had.Seq && l.Hash != f.had.Hash:
		return anotherChain(f.engine, f.had)
	}
	value, err := f.coveredBy(l)
	if err != nil || l.Seq <= f.had.Seq {
		return err
	}
	size := stored.Change{Entries: []chain.Linked{l}}.Size() + len(value)
	full := f.size+size > stored.MaxChange || len(f.change.Entries) == stored.MaxEntries ||
		len(f.change.Records) == stored.MaxRecords
	if full {
		if err := f.commit(); err != nil {
			return err
		}
	}
	f.change.Entries, f.size = append(f.change.Entries, l), f.size+size
	if value != nil {
		f.change.Records = append(f.change.Records, stored.Changed{Name: l.Key, Was: f.heads[l.Key], Value: value})
	}
	return nil
}

// coveredBy is the record that was saved last with an entry; nil for none. It is then copied.
func (f *filling) coveredBy(l chain.Linked) ([]byte, error) {
	value := f.records[l.Key]
	if l.Record == "" || value == nil {
		return nil, nil
	}
	head, err := stored.ParseHead(l.Key, value)
	if err != nil || head.Revision != l.Seq {
		return nil, err
	}
	delete(f.records, l.Key)
	return value, nil
}

// commit commits what was shown so far.
func (f *filling) commit() error {
	if len(f.change.Entries) == 0 {
		return nil
	}
	if e, ok := term.Of(f.ctx); ok {
		f.change.Epoch = &e
	}
	if err := f.engine.Commit(f.ctx, f.change); err != nil {
		return err
	}
	last := f.change.Entries[len(f.change.Entries)-1]
	f.change, f.size = stored.Change{Tip: stored.Tip{Seq: last.Seq, Hash: last.Hash}}, 0
	return nil
}

func (f *filling) Record(string, []byte) error { return nil }

func (f *filling) Ledger(name string, value []byte) error {
	return putLedger(f.ctx, name, value, f.engine.Blob, func(ctx context.Context, name string, value []byte) error {
		return f.engine.PutBlob(ctx, stored.Blob{Name: name, Value: value})
	})
}
