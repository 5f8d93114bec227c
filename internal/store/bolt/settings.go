package bolt

import (
	"context"

	"go.etcd.io/bbolt"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/record"
)

// LoadSettings returns the record of the guarded settings, as Load does for a key.
func (s *Store) LoadSettings(ctx context.Context) (record.Settings, error) {
	rec := record.Settings{Schema: s.format.version, Name: record.SettingsName}
	revision, err := read(ctx, s, s.settings, record.SettingsName, &rec)
	if err == nil {
		err = s.loaded(record.SettingsName, rec.Name, rec.Schema)
	}
	rec.Revision = revision
	return rec, err
}

// SaveSettings replaces the record of the guarded settings, as Save does for a key. The entries have the record's name.
// The others, about keys, vaults and keyd itself, follow them in the same transaction.
func (s *Store) SaveSettings(ctx context.Context, rec record.Settings, entries, others []chain.Entry) error {
	c := change{record.SettingsName, rec.Schema, rec.Revision, rec}
	if err := s.savable(c, entries); err != nil {
		return err
	}
	return s.writeAlone(ctx, func(tx *bbolt.Tx) error {
		if _, err := s.put(tx, c, entries); err != nil {
			return err
		}
		return s.link(tx, "", "", others)
	})
}
