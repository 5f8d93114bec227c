package bolt

import (
	"context"
	"slices"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/store/stored"
	"go.etcd.io/bbolt"
)

// Recent returns the last n entries of the chain, oldest first, without reading the others. It returns what is there;
// Verify judges it.
func (s *Store) Recent(ctx context.Context, n int) ([]chain.Linked, error) {
	var found []chain.Linked
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketAudit).Cursor()
		for k, v := c.Last(); k != nil && len(found) < n; k, v = c.Prev() {
			e, err := stored.ParseEntry(k, v)
			if err != nil {
				return s.corrupt("audit entry %d: %v", e.Seq, err)
			}
			found = append(found, e)
		}
		return nil
	})
	slices.Reverse(found)
	return found, err
}
