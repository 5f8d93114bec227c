package bolt

import (
	"context"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// SaveTogether is Save for several keys in one transaction: all of the records are replaced, or none is. The i-th list
// of entries goes with the i-th record.
func (s *Store) SaveTogether(ctx context.Context, recs []record.Record, entries [][]chain.Entry) error {
	changes := make([]change, len(recs))
	for i, rec := range recs {
		if !key.ValidName(rec.Key) {
			return fmt.Errorf("%q cannot be the name of a record", rec.Key)
		}
		changes[i] = change{rec.Key, rec.Schema, rec.Revision, rec}
		if err := s.savable(changes[i], entries[i]); err != nil {
			return err
		}
	}
	// Alone, because a new record's name is compared with those that are committed.
	return s.writeAlone(ctx, func(tx *bbolt.Tx) error {
		for i, c := range changes {
			if _, err := s.put(tx, c, entries[i]); err != nil {
				return err
			}
		}
		return nil
	})
}
