package bolt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"

	"go.etcd.io/bbolt"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// migration converts the JSON of all records, by name, from one schema to the next. It may add records.
type migration func(records map[string]json.RawMessage) (map[string]json.RawMessage, error)

// format is the schema that the store writes, and the migrations that lead to it.
type format struct {
	version int
	from    map[int]migration // from[n] leads from schema n to n+1
}

// current is this keyd's format. Schema 1 is the first, so nothing leads to it.
func current() format {
	return format{version: record.SchemaVersion, from: map[int]migration{1: record.FromSchema1}}
}

// migrate brings an older file to the current schema in one transaction. First it keeps a copy of the file beside it
// as keyd.db.schema-N.
func (s *Store) migrate() error {
	found, err := s.schema(s.db)
	if err != nil || found == s.format.version {
		return err
	}
	kept := s.path + ".schema-" + strconv.Itoa(found)
	// A copy from an earlier try stays: it is of the same, untouched file.
	if err := s.BackupFile(context.Background(), kept); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("keep a copy before the migration: %w", err)
	}
	err = s.guard(func() error {
		return s.db.Update(func(tx *bbolt.Tx) error {
			if err := s.migrateRecords(tx, found); err != nil {
				return err
			}
			s.entries, _ = head(tx)
			return tx.Bucket(bucketMeta).Put(keySchema, stored.Number(uint64(s.format.version)))
		})
	})
	if err != nil {
		return fmt.Errorf("bring %s from schema %d to %d (a copy is in %s): %w", s.path, found, s.format.version,
			kept, err)
	}
	return nil
}

func (s *Store) migrateRecords(tx *bbolt.Tx, from int) error {
	records := tx.Bucket(bucketRecords)
	old := map[string]stored.Record{}
	err := records.ForEach(func(k, value []byte) error {
		r, err := stored.ParseRecord(string(k), bytes.Clone(value))
		old[string(k)] = r
		return err
	})
	if err != nil {
		return err
	}
	bodies := map[string]json.RawMessage{}
	for name, r := range old {
		bodies[name] = r.Body
	}
	for v := from; v < s.format.version; v++ {
		step, ok := s.format.from[v]
		if !ok {
			return fmt.Errorf("no migration leads from schema %d to %d", v, v+1)
		}
		if bodies, err = step(bodies); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(bodies)) {
		last, _ := head(tx)
		moved := stored.NewRecord(name, last+1, bodies[name])
		if err := records.Put([]byte(name), moved.Encode()); err != nil {
			return err
		}
		entry := chain.Entry{Event: chain.RecordMigrated, Actor: "keyd", Fields: map[string]string{
			"from": strconv.Itoa(from), "to": strconv.Itoa(s.format.version)}}
		if err := s.link(tx, name, moved.Sum.String(), []chain.Entry{entry}); err != nil {
			return err
		}
	}
	return nil
}
