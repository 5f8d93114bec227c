package stored

import (
	"fmt"
	"maps"
	"slices"

	"github.com/keyd-project/keyd/internal/chain"
)

const maxFindings = 20

// Verifier walks a store: every entry in order, then every record, then every ledger, then Report. Each entry must
// follow the one before it and match its hash, and each record must be exactly the one that was saved with the last
// entry about it. Ledgers are not in the chain: each must match its own checksum.
type Verifier struct {
	report  chain.Report
	seq     uint64
	prev    chain.Hash
	covered map[string]coverage // by the record's name: what the chain says was saved last
	records map[string]bool     // that were looked at
}

type coverage struct {
	seq uint64
	sum string
}

// NewVerifier begins a walk.
func NewVerifier() *Verifier {
	return &Verifier{covered: map[string]coverage{}, records: map[string]bool{}}
}

func (v *Verifier) add(f chain.Finding) {
	if len(v.report.Faults) < maxFindings {
		v.report.Faults = append(v.report.Faults, f)
	}
}

// Entry looks at the next entry; seq is its number as 8 bytes, big endian.
func (v *Verifier) Entry(seq, value []byte) {
	c, err := ParseEntry(seq, value)
	switch {
	case err != nil:
		v.add(chain.Finding{Seq: v.seq + 1, What: err.Error()})
	case c.Seq != v.seq+1:
		v.add(chain.Finding{Seq: v.seq + 1, What: fmt.Sprintf("missing; the next one is %d", c.Seq)})
	case c.Prev != v.prev:
		v.add(chain.Finding{Seq: c.Seq,
			What: "does not follow the entry before it: one of them was changed, moved or removed"})
	}
	if err == nil && !chain.Links(c.Prev, c.Seq, c.Key, c.Body, c.Hash) {
		v.add(chain.Finding{Seq: c.Seq, What: "does not match its hash: it was changed"})
	}
	if c.Record != "" {
		v.covered[c.Key] = coverage{seq: c.Seq, sum: c.Record}
	}
	v.seq, v.prev = c.Seq, c.Hash
	v.report.Entries++
	v.report.Head = c.Hash
}

// Record looks at one record. After a later entry about it, it may be looked at again.
func (v *Verifier) Record(name string, value []byte) {
	v.records[name] = true
	v.report.Records = len(v.records)
	r, err := ParseRecord(name, value)
	last, known := v.covered[name]
	delete(v.covered, name)
	switch {
	case err != nil:
		v.add(chain.Finding{Key: name, What: err.Error()})
	case !known:
		v.add(chain.Finding{Key: name, What: "the chain has no entry for it"})
	case r.Revision > last.seq:
		v.add(chain.Finding{Key: name, What: fmt.Sprintf(
			"it was saved with entry %d and the chain knows only up to entry %d: entries were removed from its end",
			r.Revision, last.seq)})
	case r.Revision < last.seq:
		v.add(chain.Finding{Key: name, What: fmt.Sprintf(
			"it was saved with entry %d and entry %d records a later change: an older record was put back",
			r.Revision, last.seq)})
	case r.Sum.String() != last.sum:
		v.add(chain.Finding{Key: name, What: fmt.Sprintf("it is not the one that entry %d was saved with",
			last.seq)})
	}
}

// Ledger looks at one ledger.
func (v *Verifier) Ledger(name string, value []byte) {
	if _, err := ParseLedger(name, value); err != nil {
		v.add(chain.Finding{Key: name, What: err.Error()})
	}
}

// Report ends the walk: what is wrong with the store.
func (v *Verifier) Report() chain.Report {
	for _, name := range slices.Sorted(maps.Keys(v.covered)) {
		v.add(chain.Finding{Key: name, What: fmt.Sprintf("entry %d describes it, but it is gone", v.covered[name].seq)})
	}
	return v.report
}
