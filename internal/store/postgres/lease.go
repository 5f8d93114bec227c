package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

// holds is when a lease is not over. A promoted standby, or a clock that was set back, can show an end that is too far
// away: nobody would lead until then.
const holds = `until > clock_timestamp() AND until <= clock_timestamp() + 2 * ttl * interval '1 microsecond'`

// leased is what a lease is read from.
const leased = `epoch, nonce, holder, since, until, ` + holds + `, clock_timestamp()`

// Lease is who leads, by the server's clock.
func (e *Engine) Lease(ctx context.Context) (l stored.Lease, err error) {
	err = e.read(ctx, "read who leads", `SELECT `+leased+` FROM keyd.head`, func(r pgx.Rows) error {
		l, err = scanLease(r)
		return err
	})
	return l, err
}

func scanLease(r pgx.Row) (l stored.Lease, err error) {
	var nonce []byte
	var since, until *time.Time
	var held *bool
	if err := r.Scan(&l.Epoch.Number, &nonce, &l.Holder, &since, &until, &held, &l.Now); err != nil {
		return l, err
	}
	copy(l.Epoch.Nonce[:], nonce)
	l.Now = l.Now.UTC()
	if since != nil {
		l.Since = since.UTC()
	}
	if held != nil && *held {
		l.Left = until.Sub(l.Now)
	}
	return l, nil
}

// Take makes a host the leader under the next epoch.
func (e *Engine) Take(
	ctx context.Context, holder string, nonce [16]byte, ttl time.Duration,
) (l stored.Lease, err error) {
	err = e.transact(ctx, work{
		doing:  "take the lease",
		admits: func(h head) error { return h.open(nil) },
		queue: func(b *pgx.Batch) {
			b.Queue(`UPDATE keyd.head SET epoch = epoch + 1, nonce = $1, holder = $2, since = clock_timestamp(),
				ttl = $3::bigint, until = clock_timestamp() + $3::bigint * interval '1 microsecond'
				WHERE holder = $2 OR NOT coalesce(`+holds+`, false) RETURNING `+leased,
				nonce[:], holder, ttl.Microseconds()).Query(leaseOr(stored.ErrHeld, &l))
		},
	})
	return l, err
}

// Renew has the lease of an epoch end after ttl from now.
func (e *Engine) Renew(ctx context.Context, epoch term.Epoch, ttl time.Duration) (l stored.Lease, err error) {
	err = e.transact(ctx, work{
		doing:  "renew the lease",
		admits: func(h head) error { return h.open(&epoch) },
		queue: func(b *pgx.Batch) {
			b.Queue(`UPDATE keyd.head SET ttl = $1::bigint,
				until = clock_timestamp() + $1::bigint * interval '1 microsecond' WHERE `+holds+` RETURNING `+leased,
				ttl.Microseconds()).Query(leaseOr(stored.ErrEpoch, &l))
		},
	})
	return l, err
}

// leaseOr reads the one row of a lease. Without a row it refuses.
func leaseOr(refusal error, l *stored.Lease) func(pgx.Rows) error {
	return func(r pgx.Rows) (err error) {
		found := false
		for r.Next() {
			found = true
			if *l, err = scanLease(r); err != nil {
				return err
			}
		}
		if err := r.Err(); err != nil || found {
			return err
		}
		return refusal
	}
}

// Release ends the lease of an epoch. A standby need not know: there the lease ends by itself.
func (e *Engine) Release(ctx context.Context, epoch term.Epoch) error {
	return e.transact(ctx, work{
		doing: "release the lease",
		local: true,
		queue: func(b *pgx.Batch) {
			b.Queue(`UPDATE keyd.head SET until = clock_timestamp() WHERE epoch = $1 AND nonce = $2 AND `+holds,
				int64(epoch.Number), epoch.Nonce[:])
		},
	})
}
