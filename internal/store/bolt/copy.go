package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// Walk shows all that the file holds, byte for byte, in one read transaction.
func (s *Store) Walk(ctx context.Context, v stored.Visitor) error {
	return s.view(ctx, func(tx *bbolt.Tx) error {
		err := tx.Bucket(bucketAudit).ForEach(func(k, value []byte) error {
			l, err := stored.ParseEntry(k, value)
			if err != nil {
				return s.corrupt("audit entry %d: %v", l.Seq, err)
			}
			return errors.Join(ctx.Err(), v.Entry(l))
		})
		if err == nil {
			err = tx.Bucket(bucketRecords).ForEach(func(k, value []byte) error { return v.Record(string(k), value) })
		}
		if ledgers := tx.Bucket(bucketLedgers); err == nil && ledgers != nil {
			err = ledgers.ForEach(func(k, value []byte) error { return v.Ledger(string(k), value) })
		}
		return err
	})
}

// CopyFile makes a state file of all that another store holds, byte for byte. As a backup, the file appears whole, on
// the disk, and only if Verify finds it consistent. It does not overwrite an existing file.
func CopyFile(ctx context.Context, path string, from stored.Walker) error {
	err := publish(path, func(temp string) error {
		if err := create(current(), temp); err != nil {
			return err
		}
		if err := fill(ctx, temp, from); err != nil {
			return err
		}
		return verifyFile(ctx, temp)
	})
	if err != nil {
		return fmt.Errorf("copy to %s: %w", path, err)
	}
	return nil
}

// fill puts into a file all that another store holds.
func fill(ctx context.Context, path string, from stored.Walker) error {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait, NoSync: true})
	if err != nil {
		return err
	}
	f := &filler{db: db}
	err = errors.Join(from.Walk(ctx, f), f.flush(), db.Sync())
	return errors.Join(err, db.Close())
}

// fillBatch is how many values one transaction puts.
const fillBatch = 1000

// filler puts what it is shown.
type filler struct {
	db   *bbolt.DB
	puts []func(*bbolt.Tx) error
}

func (f *filler) put(bucket, name, value []byte) error {
	f.puts = append(f.puts, func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucket)
		if err != nil {
			return err
		}
		b.FillPercent = 1 // what is shown comes in order, but for a record that is shown again
		return b.Put(name, value)
	})
	if len(f.puts) < fillBatch {
		return nil
	}
	return f.flush()
}

func (f *filler) flush() error {
	puts := f.puts
	f.puts = nil
	if len(puts) == 0 {
		return nil
	}
	return f.db.Update(func(tx *bbolt.Tx) error {
		for _, put := range puts {
			if err := put(tx); err != nil {
				return err
			}
		}
		return nil
	})
}

func (f *filler) Entry(l chain.Linked) error {
	return f.put(bucketAudit, stored.Number(l.Seq), stored.EncodeEntry(l))
}

func (f *filler) Record(name string, value []byte) error {
	return f.put(bucketRecords, []byte(name), bytes.Clone(value))
}

func (f *filler) Ledger(name string, value []byte) error {
	return f.put(bucketLedgers, []byte(name), bytes.Clone(value))
}
