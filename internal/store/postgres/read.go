package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// read runs one statement, whose rows are of one moment, and calls fn for each of its rows.
func (e *Engine) read(ctx context.Context, doing, sql string, fn func(pgx.Rows) error, args ...any) error {
	inTime, cancel := context.WithTimeout(ctx, e.deadline)
	defer cancel()
	rows, err := e.pool.Query(inTime, sql, args...)
	if err != nil {
		e.reconnect(err)
		return e.failed(doing, e.acquiring(err), false)
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows); err != nil {
			return e.failed(doing, err, false)
		}
	}
	if err := rows.Err(); err != nil {
		e.reconnect(err)
		return e.failed(doing, err, false)
	}
	return nil
}

// Tip is the end of the chain. After an ambiguous change it says for good whether that happened, or fails.
func (e *Engine) Tip(ctx context.Context) (tip stored.Tip, err error) {
	if err := e.settle(ctx); err != nil {
		return tip, err
	}
	err = e.read(ctx, "read the end of the chain", `SELECT seq, hash FROM keyd.head`, func(r pgx.Rows) (err error) {
		tip, err = scanTip(r)
		return err
	})
	return tip, err
}

// scanTip reads a row that begins with the tip.
func scanTip(r pgx.Row, more ...any) (tip stored.Tip, err error) {
	var hash []byte
	if err := r.Scan(append([]any{&tip.Seq, &hash}, more...)...); err != nil {
		return tip, err
	}
	if len(hash) != len(tip.Hash) {
		return tip, errors.New("the hash of the chain's end is cut short")
	}
	tip.Hash = chain.Hash(hash)
	return tip, nil
}

// Record returns one record with the tip.
func (e *Engine) Record(ctx context.Context, name string) (value []byte, tip stored.Tip, err error) {
	err = e.read(ctx, "read the record of "+name,
		`SELECT h.seq, h.hash, r.head, r.body FROM keyd.head h LEFT JOIN keyd.record r ON r.name = $1`,
		func(r pgx.Rows) (err error) {
			var head, body []byte
			if tip, err = scanTip(r, &head, &body); err == nil && head != nil {
				value = slices.Concat(head, body)
			}
			return err
		}, name)
	return value, tip, err
}

// Heads returns the heads of all records with the tip.
func (e *Engine) Heads(ctx context.Context) (heads map[string]stored.Head, tip stored.Tip, err error) {
	heads = map[string]stored.Head{}
	err = e.read(ctx, "list the records",
		`SELECT h.seq, h.hash, r.name, r.head FROM keyd.head h LEFT JOIN keyd.record r ON true`,
		func(r pgx.Rows) (err error) {
			var name *string
			var value []byte
			if tip, err = scanTip(r, &name, &value); err != nil || name == nil {
				return err
			}
			heads[*name], err = stored.ParseHead(*name, value)
			return err
		})
	if err != nil {
		return nil, stored.Tip{}, err
	}
	return heads, tip, nil
}

// Entries returns a part of the chain. After an ambiguous change it shows for good whether that happened, or fails.
func (e *Engine) Entries(ctx context.Context, from uint64, limit int) (entries []chain.Linked, err error) {
	if err := e.settle(ctx); err != nil {
		return nil, err
	}
	err = e.read(ctx, "read the chain",
		`SELECT seq, prev, hash, body FROM keyd.entry WHERE seq >= $1 ORDER BY seq LIMIT $2`,
		func(r pgx.Rows) error {
			var seq uint64
			var prev, hash, body []byte
			if err := r.Scan(&seq, &prev, &hash, &body); err != nil {
				return err
			}
			l, err := stored.ParseEntry(stored.Number(seq), slices.Concat(prev, hash, body))
			if err != nil {
				return fmt.Errorf("entry %d: %w", seq, err)
			}
			entries = append(entries, l)
			return nil
		}, int64(from), limit)
	if err != nil {
		return nil, err
	}
	return entries, nil
}
