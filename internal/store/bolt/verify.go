package bolt

import (
	"context"
	"errors"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/store/stored"
	"go.etcd.io/bbolt"
)

// batch is how many entries one transaction reads, so that a slow reader does not keep one open.
const batch = 256

// Audit calls fn for each entry from number `from` on (0 and 1: from the first), in order, until fn fails. It returns
// what is there; Verify judges it.
func (s *Store) Audit(ctx context.Context, from uint64, fn func(chain.Linked) error) error {
	for {
		var page []chain.Linked
		err := s.view(ctx, func(tx *bbolt.Tx) error {
			c := tx.Bucket(bucketAudit).Cursor()
			for k, v := c.Seek(stored.Number(from)); k != nil && len(page) < batch; k, v = c.Next() {
				e, err := stored.ParseEntry(k, v)
				if err != nil {
					return s.corrupt("audit entry %d: %v", e.Seq, err)
				}
				page = append(page, e)
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, e := range page {
			if err := fn(e); err != nil {
				return err
			}
			from = e.Seq + 1
		}
		if len(page) < batch {
			return nil
		}
	}
}

// Verify walks the whole chain, every record and every ledger, as stored.Verifier says. The report has what is wrong;
// the error says what could not be read at all.
func (s *Store) Verify(ctx context.Context) (chain.Report, error) {
	v := stored.NewVerifier()
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		return errors.Join(
			tx.Bucket(bucketAudit).ForEach(func(k, value []byte) error {
				v.Entry(k, value)
				return ctx.Err()
			}),
			tx.Bucket(bucketRecords).ForEach(func(k, value []byte) error {
				v.Record(string(k), value)
				return nil
			}),
			walkLedgers(tx, v),
		)
	})
	return v.Report(), err
}

func walkLedgers(tx *bbolt.Tx, v *stored.Verifier) error {
	ledgers := tx.Bucket(bucketLedgers)
	if ledgers == nil {
		return nil
	}
	return ledgers.ForEach(func(k, value []byte) error {
		v.Ledger(string(k), value)
		return nil
	})
}
