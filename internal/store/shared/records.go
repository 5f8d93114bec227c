package shared

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// Load returns the record of a key as any host saved it last, with the revision that Save compares. For a key without a
// record it returns an empty one at revision 0. The record is the caller's: changing it changes nothing in the store.
// Errors: *DamagedError, *SchemaError, *stored.EngineError.
func (s *Store) Load(ctx context.Context, name string) (record.Record, error) {
	rec := record.Record{Schema: record.SchemaVersion, Key: name}
	revision, err := read(ctx, s, s.records, name, &rec)
	if err == nil {
		err = s.loaded(name, rec.Key, rec.Schema)
	}
	rec.Revision = revision
	return rec, err
}

// LoadVault returns the record of a vault by its URL, as Load does for a key.
func (s *Store) LoadVault(ctx context.Context, url string) (record.Vault, error) {
	rec := record.Vault{Schema: record.SchemaVersion, URL: url}
	revision, err := read(ctx, s, s.vaults, url, &rec)
	if err == nil {
		err = s.loaded(url, rec.URL, rec.Schema)
	}
	rec.Revision = revision
	return rec, err
}

// LoadSettings returns the record of the guarded settings, as Load does for a key.
func (s *Store) LoadSettings(ctx context.Context) (record.Settings, error) {
	rec := record.Settings{Schema: record.SchemaVersion, Name: record.SettingsName}
	revision, err := read(ctx, s, s.settings, record.SettingsName, &rec)
	if err == nil {
		err = s.loaded(record.SettingsName, rec.Name, rec.Schema)
	}
	rec.Revision = revision
	return rec, err
}

// read reads the record of that name into rec, and leaves rec unchanged if there is none. It decodes only what is not
// kept.
func read[R any](
	ctx context.Context, s *Store, kept *stored.Kept[R], name string, rec *R,
) (revision uint64, err error) {
	if s.isClosed() {
		return 0, stored.ErrClosed
	}
	value, _, err := s.engine.Record(ctx, name)
	if err != nil || value == nil {
		return 0, err
	}
	head, err := stored.ParseHead(name, value)
	if err != nil {
		return 0, s.damaged("%v", err)
	}
	if known, ok := kept.Get(name, head); ok {
		*rec = known
		return head.Revision, nil
	}
	r, err := stored.ParseRecord(name, value)
	if err != nil {
		return 0, s.damaged("%v", err)
	}
	if err := json.Unmarshal(r.Body, rec); err != nil {
		return 0, s.damaged("the record of %q cannot be read: %v", name, err)
	}
	kept.Put(name, r, *rec)
	return head.Revision, nil
}

// loaded refuses a record of a newer keyd, and one with another name.
func (s *Store) loaded(name, says string, schema int) error {
	if schema > record.SchemaVersion {
		return &SchemaError{Engine: s.engine.Name(), Name: name, Found: schema, Known: record.SchemaVersion}
	}
	if says != name {
		return s.damaged("the record of %q says that it is %q's", name, says)
	}
	return nil
}

// SchemaError says that a newer keyd wrote a record.
type SchemaError struct {
	Engine, Name string
	Found, Known int
}

func (e *SchemaError) Error() string {
	return fmt.Sprintf("the record of %s in %s has schema %d, and this keyd knows up to %d: another host has a newer "+
		"keyd; install it on this host, too", e.Name, e.Engine, e.Found, e.Known)
}

// Class is Refused.
func (e *SchemaError) Class() key.Class { return key.Refused }

// Save replaces the stored record if its revision is still rec.Revision (0: there is none yet), and appends the entries
// in the same change; at least one is needed. It returns rec at its new revision, which is the sequence number of the
// last entry. If an entry has no key or time, Save sets the record's name and the present time. Without an epoch in ctx
// it takes only entries that are anybody's.
//
// Errors: *stored.ConflictError; *stored.EpochError; *key.CaseError if another record has the new record's name in
// another case; *HeadMissing, *HaltedError; *stored.EngineError: nothing happened; *UnsettledError: load again to see
// whether the change happened.
func (s *Store) Save(ctx context.Context, rec record.Record, entries ...chain.Entry) (record.Record, error) {
	parts, err := s.keys([]record.Record{rec}, [][]chain.Entry{entries})
	if err == nil {
		err = s.write(ctx, parts...)
	}
	if err == nil {
		rec.Revision = parts[0].revision
	}
	return rec, err
}

// SaveTogether is Save for several keys in one change: all of the records are replaced, or none is. The i-th list of
// entries goes with the i-th record. What no engine need take in one change is a *TooMuchError.
func (s *Store) SaveTogether(ctx context.Context, recs []record.Record, entries [][]chain.Entry) error {
	parts, err := s.keys(recs, entries)
	if err != nil || len(parts) == 0 {
		return err
	}
	var size sizes
	if !size.add(&pending{parts: parts}) && len(parts) > 1 {
		return &TooMuchError{Records: size.records, Entries: size.entries, Bytes: size.bytes}
	}
	return s.write(ctx, parts...)
}

// TooMuchError says that several records are more than every engine takes in one change. Nothing was changed.
type TooMuchError struct{ Records, Entries, Bytes int }

func (e *TooMuchError) Error() string {
	return fmt.Sprintf("%d records and %d audit entries with %d bytes are too much for one change, which has at most "+
		"%d, %d and %d", e.Records, e.Entries, e.Bytes, stored.MaxRecords, stored.MaxEntries, stored.MaxChange)
}

// TooMuch tells a caller, which need not know this package, that fewer records at once may fit.
func (e *TooMuchError) TooMuch() bool { return true }

// Class is Refused.
func (e *TooMuchError) Class() key.Class { return key.Refused }

// keys are the parts that save records of keys.
func (s *Store) keys(recs []record.Record, entries [][]chain.Entry) ([]part, error) {
	parts := make([]part, len(recs))
	for i, rec := range recs {
		if !key.ValidName(rec.Key) {
			return nil, fmt.Errorf("%q cannot be the name of a record", rec.Key)
		}
		p, err := s.saving(rec.Key, rec.Schema, rec.Revision, rec, entries[i])
		if err != nil {
			return nil, err
		}
		parts[i] = p
	}
	return parts, nil
}

// SaveVault replaces the record of a vault, as Save does for a key. Its entries have the vault's URL instead of a key.
func (s *Store) SaveVault(ctx context.Context, rec record.Vault, entries ...chain.Entry) (record.Vault, error) {
	if !stored.IsVault(rec.URL) {
		return rec, fmt.Errorf("%q cannot be the URL of a vault's record", rec.URL)
	}
	p, err := s.saving(rec.URL, rec.Schema, rec.Revision, rec, entries)
	if err != nil {
		return rec, err
	}
	parts := []part{p}
	if err := s.write(ctx, parts...); err != nil {
		return rec, err
	}
	rec.Revision = parts[0].revision
	return rec, nil
}

// SaveSettings replaces the record of the guarded settings, as Save does for a key. The entries have the record's name.
// The others, about keys, vaults and keyd itself, follow them in the same change.
func (s *Store) SaveSettings(ctx context.Context, rec record.Settings, entries, others []chain.Entry) error {
	p, err := s.saving(record.SettingsName, rec.Schema, rec.Revision, rec, entries)
	if err != nil {
		return err
	}
	return s.write(ctx, p, s.noting("", others))
}

// Append adds entries that change no record, such as the daemon's start, a reload, or a refused request.
func (s *Store) Append(ctx context.Context, entries ...chain.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	return s.write(ctx, s.noting("", entries))
}
