package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/keyd-project/keyd/internal/store/stored"
)

// Blob returns what PutBlob kept last under a name.
func (e *Engine) Blob(ctx context.Context, name string) (value []byte, err error) {
	err = e.read(ctx, "read "+name, `SELECT value FROM keyd.blob WHERE name = $1`, func(r pgx.Rows) error {
		return r.Scan(&value)
	}, name)
	return value, err
}

// Blobs lists the names with a prefix.
func (e *Engine) Blobs(ctx context.Context, prefix string) (names []string, err error) {
	err = e.read(ctx, "list what hosts told",
		`SELECT name FROM keyd.blob WHERE substr(name, 1, length($1)) = $1 ORDER BY name`,
		func(r pgx.Rows) error {
			var name string
			err := r.Scan(&name)
			names = append(names, name)
			return err
		}, prefix)
	return names, err
}

// PutBlob replaces a blob. It waits for no standby: hosts tell each other why nobody acts when none is there, too.
func (e *Engine) PutBlob(ctx context.Context, b stored.Blob) error {
	doing := "write " + b.Name
	if len(b.Value) > stored.MaxBlob {
		return e.failed(doing, fmt.Errorf("it has %d bytes, and may have %d", len(b.Value), stored.MaxBlob), false)
	}
	return e.transact(ctx, work{
		doing:  doing,
		local:  true,
		admits: func(h head) error { return h.open(b.Epoch) },
		queue: func(batch *pgx.Batch) {
			if len(b.Value) == 0 {
				batch.Queue(`DELETE FROM keyd.blob WHERE name = $1`, b.Name)
				return
			}
			batch.Queue(`INSERT INTO keyd.blob (name, value) VALUES ($1, $2)
				ON CONFLICT (name) DO UPDATE SET value = excluded.value`, b.Name, b.Value)
		},
	})
}
