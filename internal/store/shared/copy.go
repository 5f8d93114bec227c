package shared

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/store/bolt"
	"github.com/keyd-project/keyd/internal/store/stored"
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

// Fill copies all that another store holds into an empty engine, byte for byte. The other store must not change
// meanwhile, and nobody may write to the engine: whoever calls it has seen to both.
//
// Each record comes with the entry that covers it. So a copy that was cut short is a store whose chain ends early, and
// that Verify finds consistent; Fill refuses it, because it is not empty.
func Fill(ctx context.Context, engine stored.Engine, from stored.Walker) error {
	tip, err := engine.Tip(ctx)
	if err != nil {
		return err
	}
	if tip.Seq > 0 {
		return fmt.Errorf("%s is not empty: it has %d audit entries; copy to a fresh one", engine.Name(), tip.Seq)
	}
	records := recordsOf{}
	if err := from.Walk(ctx, records); err != nil {
		return err
	}
	f := &filling{ctx: ctx, engine: limited{engine, callTime}, records: records}
	if err := from.Walk(ctx, f); err != nil {
		return err
	}
	if err := f.commit(); err != nil {
		return err
	}
	if len(records) > 0 {
		return fmt.Errorf("%d records are covered by no entry of the chain: run keyd audit verify", len(records))
	}
	return nil
}

// recordsOf collects the records that it is shown.
type recordsOf map[string][]byte

func (recordsOf) Entry(chain.Linked) error { return nil }

func (r recordsOf) Record(name string, value []byte) error {
	r[name] = bytes.Clone(value)
	return nil
}

func (recordsOf) Ledger(string, []byte) error { return nil }

// filling commits what it is shown, as much at a time as every engine takes.
type filling struct {
	ctx     context.Context
	engine  stored.Engine
	records recordsOf // that were not committed yet
	change  stored.Change
	size    int
}

func (f *filling) Entry(l chain.Linked) error {
	size := stored.Change{Entries: []chain.Linked{l}}.Size()
	value, covers := f.records[l.Key], false
	if l.Record != "" && value != nil {
		head, err := stored.ParseHead(l.Key, value)
		if err != nil {
			return err
		}
		if covers = head.Revision == l.Seq; covers {
			size += len(value)
		}
	}
	full := f.size+size > stored.MaxChange || len(f.change.Entries) == stored.MaxEntries ||
		len(f.change.Records) == stored.MaxRecords
	if full {
		if err := f.commit(); err != nil {
			return err
		}
	}
	f.change.Entries, f.size = append(f.change.Entries, l), f.size+size
	if covers {
		f.change.Records = append(f.change.Records, stored.Changed{Name: l.Key, Value: value})
		delete(f.records, l.Key)
	}
	return nil
}

// commit commits what was shown so far.
func (f *filling) commit() error {
	if len(f.change.Entries) == 0 {
		return nil
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
