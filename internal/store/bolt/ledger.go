package bolt

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/keyd-project/keyd/internal/chain"
)

// MaxLedger is the size of the largest ledger that SaveLedger takes, in bytes (4 MiB).
const MaxLedger = 4 << 20

// maxLedgerName is the length of the longest name of a ledger, in bytes.
const maxLedgerName = 512

// ledgerDomain separates the hashes of ledgers from all other hashes.
const ledgerDomain = "keyd ledger v1\n"

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
		if err := checkLedger(name, value); err != nil {
			return s.corrupt("%v", err)
		}
		blob = bytes.Clone(value[sha256.Size:])
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
	switch {
	case name == "" || len(name) > maxLedgerName:
		return fmt.Errorf("%q cannot be the name of a ledger: 1 to %d bytes can", name, maxLedgerName)
	case len(blob) > MaxLedger:
		return fmt.Errorf("the ledger of %s has %d bytes, and the store keeps at most %d", name, len(blob), MaxLedger)
	}
	sum := ledgerSum(name, blob)
	value := bytes.Join([][]byte{sum[:], blob}, nil)
	return s.write(ctx, func(tx *bbolt.Tx) error {
		ledgers, err := tx.CreateBucketIfNotExists(bucketLedgers)
		if err != nil {
			return err
		}
		return ledgers.Put([]byte(name), value)
	})
}

// ledgerSum is SHA-256(domain ‖ len(name) ‖ name ‖ blob), the number as 8 bytes big endian.
func ledgerSum(name string, blob []byte) chain.Hash {
	h := sha256.New()
	h.Write([]byte(ledgerDomain))
	h.Write(number(uint64(len(name))))
	h.Write([]byte(name))
	h.Write(blob)
	return chain.Hash(h.Sum(nil))
}

func checkLedger(name string, value []byte) error {
	if len(value) < sha256.Size || ledgerSum(name, value[sha256.Size:]) != chain.Hash(value[:sha256.Size]) {
		return fmt.Errorf("the ledger of %q does not match its checksum", name)
	}
	return nil
}

// walkLedgers finds damaged ledgers.
func (v *verifier) walkLedgers(tx *bbolt.Tx) error {
	ledgers := tx.Bucket(bucketLedgers)
	if ledgers == nil {
		return nil
	}
	return ledgers.ForEach(func(k, value []byte) error {
		if err := checkLedger(string(k), value); err != nil {
			v.add(chain.Finding{Key: string(k), What: err.Error()})
		}
		return nil
	})
}
