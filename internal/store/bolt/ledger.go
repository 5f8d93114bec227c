package bolt

import (
	"context"

	"github.com/keyd-project/keyd/internal/store/stored"
	"go.etcd.io/bbolt"
)

var bucketLedgers = []byte("ledgers")

// LoadLedger returns what SaveLedger saved last under that name, nil for nothing. Errors: *CorruptError.
func (s *Store) LoadLedger(ctx context.Context, name string) (blob []byte, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		ledgers := tx.Bucket(bucketLedgers)
		if ledgers == nil { // a file from before there were ledgers, or none was saved yet
			return nil
		}
		value := ledgers.Get([]byte(name))
		if value == nil {
			return nil
		}
		var err error
		if blob, err = stored.ParseLedger(name, value); err != nil {
			return s.corrupt("%v", err)
		}
		return nil
	})
	return blob, err
}

// SaveLedger replaces the ledger of that name: what keyd noted for itself of the world outside, such as uses of a key
// that it saw in a vault's log. A ledger is not in the audit chain, and no compare-and-swap protects it, because it
// records no act and no consent, and because each is written hourly. An old ledger that is put back ends earlier, so
// it shows a gap up to now, and keyd disables nothing over a gap. A forged ledger is another matter: whoever can write
// the file can hide a use in it. So before keyd disables a version it asks the source again, and says in the entry of
// the disabling what rests on its ledger alone. The checksum finds a damaged ledger, not a forged one.
//
// Errors: *WriteError.
func (s *Store) SaveLedger(ctx context.Context, name string, blob []byte) error {
	value, err := stored.EncodeLedger(name, blob)
	if err != nil {
		return err
	}
	return s.write(ctx, func(tx *bbolt.Tx) error {
		ledgers, err := tx.CreateBucketIfNotExists(bucketLedgers)
		if err != nil {
			return err
		}
		return ledgers.Put([]byte(name), value)
	})
}
