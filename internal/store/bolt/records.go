package bolt

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// Load returns the record of a key, with the revision that Save compares. For a key without a record it returns an
// empty one at revision 0. The record is the caller's: changing it changes nothing in the store. Errors: *CorruptError,
// *SchemaError.
func (s *Store) Load(ctx context.Context, name string) (record.Record, error) {
	rec := record.Record{Schema: s.format.version, Key: name}
	revision, err := read(ctx, s, s.records, name, &rec)
	if err == nil {
		err = s.loaded(name, rec.Key, rec.Schema)
	}
	rec.Revision = revision
	return rec, err
}

// LoadVault returns the record of a vault by its URL, as Load does for a key.
func (s *Store) LoadVault(ctx context.Context, url string) (record.Vault, error) {
	rec := record.Vault{Schema: s.format.version, URL: url}
	revision, err := read(ctx, s, s.vaults, url, &rec)
	if err == nil {
		err = s.loaded(url, rec.URL, rec.Schema)
	}
	rec.Revision = revision
	return rec, err
}

// read reads the record of that name into rec. It leaves rec unchanged if there is none. It decodes only what is not
// kept: it does not decode a body again whose revision and sum are those of the kept record. Verify and Save do.
func read[R any](
	ctx context.Context,
	s *Store,
	kept *stored.Kept[R],
	name string,
	rec *R,
) (revision uint64, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		value := tx.Bucket(bucketRecords).Get([]byte(name))
		if value == nil {
			return nil
		}
		head, err := stored.ParseHead(name, value)
		if err != nil {
			return s.corrupt("%v", err)
		}
		revision = head.Revision
		if known, ok := kept.Get(name, head); ok {
			*rec = known
			return nil
		}
		r, err := stored.ParseRecord(name, value)
		if err != nil {
			return s.corrupt("%v", err)
		}
		if err := json.Unmarshal(r.Body, rec); err != nil {
			return s.corrupt("the record of %q cannot be read: %v", name, err)
		}
		kept.Put(name, r, *rec)
		return nil
	})
	return revision, err
}

// loaded refuses a record of a newer keyd, and one with another name.
func (s *Store) loaded(name, says string, schema int) error {
	if schema > s.format.version {
		return &SchemaError{Path: s.path, Found: schema, Known: s.format.version}
	}
	if says != name {
		return s.remember(s.corrupt("the record of %q says that it is %q's", name, says))
	}
	return nil
}

// Save replaces the stored record if its revision is still rec.Revision (0: there is none yet), and appends the
// entries in the same transaction; at least one is needed. It returns rec at its new revision, which is the sequence
// number of the last entry. If an entry has no key or time, Save sets the record's name and the present time.
//
// Errors: *stored.ConflictError; *stored.EpochError; *key.CaseError if another record has the new record's name in
// another case; *WriteError. If a *WriteError has class Ambiguous, load again to see whether the change happened.
func (s *Store) Save(ctx context.Context, rec record.Record, entries ...chain.Entry) (record.Record, error) {
	if !key.ValidName(rec.Key) {
		return rec, fmt.Errorf("%q cannot be the name of a record", rec.Key)
	}
	revision, err := s.save(ctx, change{rec.Key, rec.Schema, rec.Revision, rec}, entries)
	if err == nil {
		rec.Revision = revision
	}
	return rec, err
}

// SaveVault replaces the record of a vault, as Save does for a key. Its entries have the vault's URL instead of a
// key.
func (s *Store) SaveVault(ctx context.Context, rec record.Vault, entries ...chain.Entry) (record.Vault, error) {
	if !stored.IsVault(rec.URL) {
		return rec, fmt.Errorf("%q cannot be the URL of a vault's record", rec.URL)
	}
	revision, err := s.save(ctx, change{rec.URL, rec.Schema, rec.Revision, rec}, entries)
	if err == nil {
		rec.Revision = revision
	}
	return rec, err
}

// change is a record to save.
type change struct {
	name     string
	schema   int
	revision uint64 // at which it was loaded
	body     any
}

func (s *Store) save(ctx context.Context, c change, entries []chain.Entry) (revision uint64, err error) {
	if err := s.savable(c, entries); err != nil {
		return 0, err
	}
	write := s.write
	if c.revision == 0 {
		write = s.writeAlone // its name is compared with those that are committed
	}
	err = write(ctx, func(tx *bbolt.Tx) (err error) {
		revision, err = s.put(tx, c, entries)
		return err
	})
	return revision, err
}

// put replaces one record and appends its entries.
func (s *Store) put(tx *bbolt.Tx, c change, entries []chain.Entry) (revision uint64, err error) {
	records := tx.Bucket(bucketRecords)
	had, err := revisionOf(c.name, records.Get([]byte(c.name)))
	if err != nil {
		return 0, s.corrupt("%v", err)
	}
	if had != c.revision {
		return 0, &stored.ConflictError{Key: c.name, Had: c.revision, Stored: had}
	}
	if had == 0 {
		if err := s.refuseOtherCase(records, c.name); err != nil {
			return 0, err
		}
		tx.OnCommit(func() { s.named(c.name) }) // before the next transaction begins
	}
	body, err := json.Marshal(c.body)
	if err != nil {
		return 0, fmt.Errorf("encode the record of %s: %w", c.name, err)
	}
	last, _ := head(tx)
	r := stored.NewRecord(c.name, last+uint64(len(entries)), body)
	if err := records.Put([]byte(c.name), r.Encode()); err != nil {
		return 0, err
	}
	return r.Revision, s.link(tx, c.name, r.Sum.String(), entries)
}

// refuseOtherCase keeps a key from getting two records. It reads the names of all records once.
func (s *Store) refuseOtherCase(records *bbolt.Bucket, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.names == nil {
		s.names = map[string]string{}
		err := records.ForEach(func(k, _ []byte) error {
			s.names[strings.ToLower(string(k))] = string(k)
			return nil
		})
		if err != nil {
			s.names = nil
			return err
		}
	}
	if other, ok := s.names[strings.ToLower(name)]; ok {
		return &key.CaseError{Name: name, Record: other}
	}
	return nil
}

// named notes that there is a record of that name.
func (s *Store) named(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.names != nil {
		s.names[strings.ToLower(name)] = name
	}
}

func (s *Store) savable(c change, entries []chain.Entry) error {
	switch {
	case c.schema != s.format.version:
		return fmt.Errorf("record of %s: schema %d cannot be saved, only %d", c.name, c.schema, s.format.version)
	case len(entries) == 0:
		return fmt.Errorf("record of %s: a change without an audit entry", c.name)
	}
	for _, e := range entries {
		if e.Key != "" && e.Key != c.name {
			return fmt.Errorf("record of %s: an audit entry of %s cannot go with it", c.name, e.Key)
		}
	}
	return nil
}

func revisionOf(name string, value []byte) (uint64, error) {
	if value == nil {
		return 0, nil
	}
	r, err := stored.ParseRecord(name, value)
	return r.Revision, err
}
