package shared

import (
	"context"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// Audit calls fn for each entry from number `from` on (0 and 1: from the first), in order, until fn fails. It returns
// what is there; Verify judges it.
func (s *Store) Audit(ctx context.Context, from uint64, fn func(chain.Linked) error) error {
	for {
		if s.isClosed() {
			return stored.ErrClosed
		}
		found, err := s.engine.Entries(ctx, from, page)
		if err != nil {
			return err
		}
		for _, l := range found {
			if err := fn(l); err != nil {
				return err
			}
			from = l.Seq + 1
		}
		if len(found) < page {
			return nil
		}
	}
}

// Recent returns the last n entries of the chain, oldest first, without reading the others. It returns what is there;
// Verify judges it.
func (s *Store) Recent(ctx context.Context, n int) ([]chain.Linked, error) {
	end, _, err := s.Head(ctx)
	if err != nil || n <= 0 || end == 0 {
		return nil, err
	}
	var found []chain.Linked
	for from := end - min(end, uint64(n)) + 1; from <= end; {
		next, err := s.engine.Entries(ctx, from, int(min(end-from+1, page)))
		if err != nil || len(next) == 0 {
			return found, err
		}
		found, from = append(found, next...), next[len(next)-1].Seq+1
	}
	return found, nil
}

// Verify walks the whole chain, every record and every ledger, as stored.Verifier says, while work goes on. The report
// has what is wrong; the error says what could not be read at all.
func (s *Store) Verify(ctx context.Context) (chain.Report, error) {
	v := stored.NewVerifier()
	err := s.Walk(ctx, verifying{v})
	return v.Report(), err
}

// verifying has a Verifier look at what a walk shows.
type verifying struct{ *stored.Verifier }

func (v verifying) Entry(l chain.Linked) error {
	v.Verifier.Entry(stored.Number(l.Seq), stored.EncodeEntry(l))
	return nil
}

func (v verifying) Record(name string, value []byte) error {
	v.Verifier.Record(name, value)
	return nil
}

func (v verifying) Ledger(name string, value []byte) error {
	v.Verifier.Ledger(name, value)
	return nil
}
