package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyd-project/keyd/internal/store/stored"
)

// Commit makes a change. The row of keyd.head, the records' own heads and the unique numbers of the entries each refuse
// what another change came before.
func (e *Engine) Commit(ctx context.Context, c stored.Change) error {
	const doing = "save a change"
	heads, err := headsIn(c)
	if err != nil {
		return e.failed(doing, err, false)
	}
	return e.transact(ctx, work{
		doing: doing,
		admits: func(h head) error {
			if err := h.open(c.Epoch); err != nil {
				return err
			}
			if h.tip != c.Tip {
				return fmt.Errorf("%w (entry %d)", stored.ErrTip, h.tip.Seq)
			}
			return nil
		},
		queue: func(b *pgx.Batch) {
			for i, r := range c.Records {
				replace(b, r, heads[i])
			}
			for _, l := range c.Entries {
				b.Queue(`INSERT INTO keyd.entry (seq, prev, hash, body) VALUES ($1, $2, $3, $4)`,
					int64(l.Seq), l.Prev[:], l.Hash[:], l.Body)
			}
			end := c.Entries[len(c.Entries)-1]
			b.Queue(`UPDATE keyd.head SET seq = $1, hash = $2 WHERE seq = $3 AND hash = $4`,
				int64(end.Seq), end.Hash[:], int64(c.Tip.Seq), c.Tip.Hash[:]).Exec(one(stored.ErrTip))
		},
	})
}

// headsIn are the heads of a change's records. It refuses a change that no store may make.
func headsIn(c stored.Change) ([]stored.Head, error) {
	switch {
	case len(c.Entries) == 0:
		return nil, fmt.Errorf("a change of %d records has no entry", len(c.Records))
	case len(c.Entries) > stored.MaxEntries, len(c.Records) > stored.MaxRecords, c.Size() > stored.MaxChange:
		return nil, fmt.Errorf("it has %d entries, %d records and %d bytes, and a change may have %d, %d and %d",
			len(c.Entries), len(c.Records), c.Size(), stored.MaxEntries, stored.MaxRecords, stored.MaxChange)
	}
	heads := make([]stored.Head, len(c.Records))
	for i, r := range c.Records {
		var err error
		if heads[i], err = stored.ParseHead(r.Name, r.Value); err != nil {
			return nil, err
		}
	}
	return heads, nil
}

func replace(b *pgx.Batch, r stored.Changed, now stored.Head) {
	body := r.Value[stored.HeadSize:]
	if r.Was == (stored.Head{}) {
		b.Queue(`INSERT INTO keyd.record (name, head, body) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING`,
			r.Name, bytesOf(now), body).Exec(one(stored.ErrRecord))
		return
	}
	b.Queue(`UPDATE keyd.record SET head = $2, body = $3 WHERE name = $1 AND head = $4`,
		r.Name, bytesOf(now), body, bytesOf(r.Was)).Exec(one(stored.ErrRecord))
}

// bytesOf is a head as the table has it.
func bytesOf(h stored.Head) []byte { return append(h.Sum[:], stored.Number(h.Revision)...) }

// one refuses a statement that did not change its one row.
func one(refusal error) func(pgconn.CommandTag) error {
	return func(tag pgconn.CommandTag) error {
		if tag.RowsAffected() != 1 {
			return refusal
		}
		return nil
	}
}
