package bolt

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/keyd-project/keyd/internal/chain"
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
			for k, v := c.Seek(number(from)); k != nil && len(page) < batch; k, v = c.Next() {
				e, err := parseLinked(k, v)
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

const maxFindings = 20

// Verify walks the whole chain and every record: each entry must follow the one before it and match its hash, and
// each record must be exactly the one that was saved with the last entry about it. Ledgers are not in the chain: each
// must match its own checksum. The report has what is wrong; the error says what could not be read at all.
func (s *Store) Verify(ctx context.Context) (chain.Report, error) {
	v := verifier{covered: map[string]coverage{}}
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		if err := v.walkChain(ctx, tx); err != nil {
			return err
		}
		return errors.Join(v.walkRecords(tx), v.walkLedgers(tx))
	})
	return v.report, err
}

type verifier struct {
	report  chain.Report
	covered map[string]coverage // by key: what the chain says was saved last
}

type coverage struct {
	seq uint64
	sum string
}

func (v *verifier) add(f chain.Finding) {
	if len(v.report.Faults) < maxFindings {
		v.report.Faults = append(v.report.Faults, f)
	}
}

func (v *verifier) walkChain(ctx context.Context, tx *bbolt.Tx) error {
	var seq uint64
	var prev chain.Hash
	return tx.Bucket(bucketAudit).ForEach(func(k, value []byte) error {
		c, err := parseLinked(k, value)
		switch {
		case err != nil:
			v.add(chain.Finding{Seq: seq + 1, What: err.Error()})
		case c.Seq != seq+1:
			v.add(chain.Finding{Seq: seq + 1, What: fmt.Sprintf("missing; the next one is %d", c.Seq)})
		case c.Prev != prev:
			v.add(chain.Finding{Seq: c.Seq,
				What: "does not follow the entry before it: one of them was changed, moved or removed"})
		}
		if err == nil && !chain.Links(c.Prev, c.Seq, c.Key, c.Body, c.Hash) {
			v.add(chain.Finding{Seq: c.Seq, What: "does not match its hash: it was changed"})
		}
		if c.Record != "" {
			v.covered[c.Key] = coverage{seq: c.Seq, sum: c.Record}
		}
		seq, prev = c.Seq, c.Hash
		v.report.Entries++
		v.report.Head = c.Hash
		return ctx.Err()
	})
}

func (v *verifier) walkRecords(tx *bbolt.Tx) error {
	err := tx.Bucket(bucketRecords).ForEach(func(k, value []byte) error {
		name := string(k)
		v.report.Records++
		r, err := parseStored(name, value)
		last, known := v.covered[name]
		delete(v.covered, name)
		switch {
		case err != nil:
			v.add(chain.Finding{Key: name, What: err.Error()})
		case !known:
			v.add(chain.Finding{Key: name, What: "the chain has no entry for it"})
		case r.revision > last.seq:
			v.add(chain.Finding{Key: name, What: fmt.Sprintf(
				"it was saved with entry %d and the chain knows only up to entry %d: entries were removed from its end",
				r.revision, last.seq)})
		case r.revision < last.seq:
			v.add(chain.Finding{Key: name, What: fmt.Sprintf(
				"it was saved with entry %d and entry %d records a later change: an older record was put back",
				r.revision, last.seq)})
		case r.sum.String() != last.sum:
			v.add(chain.Finding{Key: name, What: fmt.Sprintf("it is not the one that entry %d was saved with",
				last.seq)})
		}
		return nil
	})
	for _, name := range slices.Sorted(maps.Keys(v.covered)) {
		v.add(chain.Finding{Key: name, What: fmt.Sprintf("entry %d describes it, but it is gone", v.covered[name].seq)})
	}
	return err
}
