package shared

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/keyd-project/keyd/internal/store/stored"
)

// maxRounds is how often a walk looks again for what changed while it walked. What is still not the state that the
// chain ends with is shown as it is.
const maxRounds = 20

// Walk shows all that the store holds, byte for byte, as it was at one moment, although hosts go on writing: it walks
// to the end of the chain, reads the records, and goes on from there for what changed meanwhile.
func (s *Store) Walk(ctx context.Context, v stored.Visitor) error {
	if s.isClosed() {
		return stored.ErrClosed
	}
	var end uint64
	shown := map[string]stored.Head{}
	for round := 1; ; round++ {
		heads, tip, err := s.engine.Heads(ctx)
		if err != nil {
			return err
		}
		if end, err = s.walkEntries(ctx, end, tip.Seq, v); err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(heads)) {
			if head, ok := shown[name]; ok && head == heads[name] {
				continue
			}
			if err := s.walkRecord(ctx, name, heads[name], round == maxRounds, shown, v); err != nil {
				return err
			}
		}
		if maps.Equal(heads, shown) || round == maxRounds {
			break
		}
	}
	return s.walkLedgers(ctx, v)
}

// walkEntries shows the entries after one number, up to another.
func (s *Store) walkEntries(ctx context.Context, after, to uint64, v stored.Visitor) (uint64, error) {
	for after < to {
		found, err := s.engine.Entries(ctx, after+1, int(min(to-after, page)))
		if err != nil {
			return after, err
		}
		if len(found) == 0 {
			return after, s.damaged("its chain ends with entry %d, and should end with %d", after, to)
		}
		for _, l := range found {
			if err := v.Entry(l); err != nil {
				return after, err
			}
		}
		after = found[len(found)-1].Seq
	}
	return after, nil
}

// walkRecord shows a record in this state, and leaves another state to the next round.
func (s *Store) walkRecord(
	ctx context.Context, name string, want stored.Head, last bool, shown map[string]stored.Head, v stored.Visitor,
) error {
	value, _, err := s.engine.Record(ctx, name)
	if err != nil {
		return err
	}
	if head, err := stored.ParseHead(name, value); last || err == nil && head == want {
		shown[name] = want
		return v.Record(name, value)
	}
	return nil
}

func (s *Store) walkLedgers(ctx context.Context, v stored.Visitor) error {
	names, err := s.engine.Blobs(ctx, ledgerBlob)
	if err != nil {
		return err
	}
	for _, name := range names {
		value, err := s.ledger(ctx, strings.TrimPrefix(name, ledgerBlob))
		if errors.Is(err, errNoLedger) {
			continue
		}
		if err != nil {
			return err
		}
		if err := v.Ledger(strings.TrimPrefix(name, ledgerBlob), value); err != nil {
			return err
		}
	}
	return nil
}
