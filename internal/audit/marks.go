package audit

import (
	"context"
	"fmt"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
)

// String returns the form that tags and the journal carry.
func (m Mark) String() string { return key.Checkpoint{Seq: m.Seq, Head: m.Head}.Mark() }

// ImportMarks returns, for each of the attempts, the mark that keyd recorded before that import, and sent as a tag; ""
// if there was no checkpoint yet. Attempts that the chain does not have are left out.
func ImportMarks(ctx context.Context, src Reader, attempts map[key.ID]bool) (map[key.ID]string, error) {
	marks := map[key.ID]string{}
	if len(attempts) == 0 {
		return marks, nil
	}
	err := src.Audit(ctx, 0, func(c chain.Linked) error {
		if attempt := key.ID(c.Fields["attempt"]); c.Event == chain.ImportIntended && attempts[attempt] {
			marks[attempt] = c.Fields["checkpoint"]
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the audit chain: %w", err)
	}
	return marks, nil
}

// Mismatches returns, for each mark that does not belong to this chain, what is wrong. A
// mark belongs to the chain if its entry has the mark's hash and the chain records the
// signature. keyd records the signature before it publishes a mark, so a chain that was
// cut off right after the entry is detected, too.
func Mismatches(ctx context.Context, src Reader, marks []Mark) (map[Mark]string, error) {
	if len(marks) == 0 {
		return nil, nil
	}
	wanted := map[uint64]bool{}
	from := marks[0].Seq
	for _, m := range marks {
		wanted[m.Seq] = true
		from = min(from, m.Seq)
	}
	last, _, err := src.Head(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the audit chain's head: %w", err)
	}
	hashes, signed := map[uint64]string{}, map[Mark]bool{}
	err = src.Audit(ctx, from, func(c chain.Linked) error {
		if last = c.Seq; wanted[c.Seq] {
			hashes[c.Seq] = c.Hash.String()
		}
		if s, ok, err := parseSigned(c.Entry); ok && err == nil {
			signed[Mark{s.Seq, s.Head}] = true
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the audit chain: %w", err)
	}
	wrong := map[Mark]string{}
	for _, m := range marks {
		switch hash := hashes[m.Seq]; {
		case hash == "":
			wrong[m] = fmt.Sprintf("the chain ends with entry %d: its end was cut off, or the state is an older copy",
				last)
		case hash != string(m.Head):
			wrong[m] = fmt.Sprintf("entry %d of the chain has another hash: an older state was restored and "+
				"continued, or the chain was rewritten", m.Seq)
		case !signed[m]:
			wrong[m] = fmt.Sprintf("the chain has entry %d, but no record of its signature: its end was cut off, or "+
				"the state is an older copy", m.Seq)
		}
	}
	return wrong, nil
}
