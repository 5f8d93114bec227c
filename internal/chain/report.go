package chain

import (
	"fmt"
	"strings"
)

// Report is what a store finds when it verifies its chain and its records.
type Report struct {
	Entries uint64    `json:"entries"`
	Head    Hash      `json:"head"` // the last entry's; zero when there is none
	Records int       `json:"records"`
	Faults  []Finding `json:"faults,omitempty"` // at most 20
}

// Finding is one place where the chain or a record is not as it was written.
type Finding struct {
	Seq  uint64 `json:"seq,omitempty"` // number of the audit entry; 0: none
	Key  string `json:"key,omitempty"` // of the record; "": none
	What string `json:"what"`
}

// Consistent reports whether nothing was found. Whether the chain ends where it should shows only by comparing
// Entries and Head with values noted elsewhere: entries cut off its end leave no trace, unless a record is newer.
func (r Report) Consistent() bool { return len(r.Faults) == 0 }

// String returns the report in one line.
func (r Report) String() string {
	if r.Consistent() {
		return fmt.Sprintf("internally consistent: %d entries, head %s, %d records covered", r.Entries, r.Head,
			r.Records)
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
