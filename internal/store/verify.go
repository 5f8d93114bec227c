package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/keyd-project/keyd/internal/chain"
	"go.etcd.io/bbolt"
)

// batch is how many entries are read in one transaction, so that a slow reader
// does not keep one open.
const batch = 256

// Audit calls fn for each entry from number `from` on (0 and 1: from the
// first), in order, until fn fails. It shows what is there; Verify judges it.
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

// Report is what Verify found.
type Report struct {
	Entries uint64     `json:"entries"`
	Head    chain.Hash `json:"head"` // the last entry's; zero when there is none
	Records int        `json:"records"`
	Faults  []Finding  `json:"faults,omitempty"` // at most 20
}

// Finding is one place where the chain or a record is not as it was written.
type Finding struct {
	Seq  uint64 `json:"seq,omitempty"` // of the audit entry; 0: none
	Key  string `json:"key,omitempty"` // of the record; "": none
	What string `json:"what"`
}

const maxFindings = 20

// Consistent reports whether nothing was found. That the chain ends where it
// should is known only by comparing Entries and Head with values noted
// elsewhere: entries cut off its end leave no trace, unless a record is newer.
func (r Report) Consistent() bool { return len(r.Faults) == 0 }

// String says it in one line.
func (r Report) String() string {
	if r.Consistent() {
		return fmt.Sprintf("internally consistent: %d entries, head %s, %d records covered", r.Entries, r.Head, r.Records)
	}
	parts := make([]string, len(r.Faults))
	for i, f := range r.Faults {
		parts[i] = f.String()
	}
	return "not consistent: " + strings.Join(parts, "; ")
}

func (f Finding) String() string {
	if f.Seq != 0 {
		return fmt.Sprintf("audit entry %d: %s", f.Seq, f.What)
	}
	return fmt.Sprintf("record of %s: %s", f.Key, f.What)
}

// Verify walks the whole chain and every record: each entry follows the one
// before it and hashes as written, and each record is exactly the one that the
// last entry about it was saved with. What is wrong is in the Report; the error
// is for what could not be read at all.
func (s *Store) Verify(ctx context.Context) (Report, error) {
	v := verifier{covered: map[string]coverage{}}
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		if err := v.walkChain(ctx, tx); err != nil {
			return err
		}
		return v.walkRecords(tx)
	})
	return v.report, err
}

type verifier struct {
	report  Report
	covered map[string]coverage // by key: what the chain says was saved last
}

type coverage struct {
	seq uint64
	sum string
}

func (v *verifier) add(f Finding) {
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
			v.add(Finding{Seq: seq + 1, What: err.Error()})
		case c.Seq != seq+1:
			v.add(Finding{Seq: seq + 1, What: fmt.Sprintf("missing; the next one is %d", c.Seq)})
		case c.Prev != prev:
			v.add(Finding{Seq: c.Seq, What: "does not follow the entry before it: one of them was changed, moved or removed"})
		}
		if err == nil && !chain.Links(c.Prev, c.Seq, c.Key, c.Body, c.Hash) {
			v.add(Finding{Seq: c.Seq, What: "does not match its hash: it was changed"})
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
			v.add(Finding{Key: name, What: err.Error()})
		case !known:
			v.add(Finding{Key: name, What: "the chain has no entry of it"})
		case r.revision > last.seq:
			v.add(Finding{Key: name, What: fmt.Sprintf(
				"it was saved with entry %d and the chain knows only up to entry %d: entries were removed from its end", r.revision, last.seq)})
		case r.revision < last.seq:
			v.add(Finding{Key: name, What: fmt.Sprintf(
				"it was saved with entry %d and entry %d tells of a later change: an older record was put back", r.revision, last.seq)})
		case r.sum.String() != last.sum:
			v.add(Finding{Key: name, What: fmt.Sprintf("it is not the one that entry %d was saved with", last.seq)})
		}
		return nil
	})
	for _, name := range slices.Sorted(maps.Keys(v.covered)) {
		v.add(Finding{Key: name, What: fmt.Sprintf("entry %d tells of it, and it is gone", v.covered[name].seq)})
	}
	return err
}
