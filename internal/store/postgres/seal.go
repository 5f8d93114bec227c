package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Seal has the store refuse every change from now on.
func (e *Engine) Seal(ctx context.Context, why string) error {
	return e.transact(ctx, work{
		doing: "seal the store",
		queue: func(b *pgx.Batch) { b.Queue(`UPDATE keyd.head SET sealed = $1`, why) },
	})
}

// Sealed is why the store takes no changes any more.
func (e *Engine) Sealed(ctx context.Context) (why string, err error) {
	err = e.read(ctx, "ask whether the store is sealed", `SELECT sealed FROM keyd.head`, func(r pgx.Rows) error {
		return r.Scan(&why)
	})
	return why, err
}
