package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

// head is the locked row.
type head struct {
	tip    stored.Tip
	epoch  term.Epoch
	sealed string
}

// work is one transaction.
type work struct {
	doing string
	// local: it need not outlive the server that takes it. It waits for no standby, and is done when none is there.
	local  bool
	admits func(head) error // refuses by what the change before left; nil: admits everything
	queue  func(*pgx.Batch) // what it changes; nil: nothing
}

// transact makes all of it or nothing. Everything up to COMMIT is one round trip: what comes after the refusal of a
// statement is done in vain, and rolled back.
func (e *Engine) transact(ctx context.Context, w work) error {
	inTime, cancel := context.WithTimeout(ctx, e.deadline)
	defer cancel()
	conn, err := e.pool.Acquire(inTime)
	if err != nil {
		e.reconnect(err)
		return e.failed(w.doing, e.acquiring(err), false)
	}
	defer conn.Release()
	b := &pgx.Batch{}
	b.Queue("BEGIN ISOLATION LEVEL READ COMMITTED")
	e.limit(b, w.local)
	b.Queue(`SELECT seq, hash, epoch, nonce, sealed, schema FROM keyd.head FOR UPDATE`).QueryRow(w.admit)
	if !w.local {
		e.requireStandbys(b)
	}
	if w.queue != nil {
		w.queue(b)
	}
	if err := conn.SendBatch(inTime, b).Close(); err != nil {
		e.rollBack(ctx, conn)
		e.reconnect(err)
		return e.failed(w.doing, err, false)
	}
	if err := ctx.Err(); err != nil {
		e.rollBack(ctx, conn)
		return e.failed(w.doing, err, false)
	}
	return e.commit(ctx, conn, w)
}

// limit has the server end the transaction if this host hangs or vanishes, so that others get the row. The
// settings end with the transaction.
func (e *Engine) limit(b *pgx.Batch, local bool) {
	milliseconds := func(d time.Duration) string { return fmt.Sprint(max(1, d.Milliseconds())) }
	b.Queue(`SELECT set_config('statement_timeout', $1, true), set_config('lock_timeout', $2, true),
		set_config('idle_in_transaction_session_timeout', $3, true)`,
		milliseconds(e.deadline), milliseconds(e.deadline/2), milliseconds(e.deadline/4))
	if local && e.synchronous {
		b.Queue(`SELECT set_config('synchronous_commit', 'local', true)`)
	}
}

// admit reads the locked row, and refuses the work by it.
func (w work) admit(row pgx.Row) error {
	var h head
	var schema int
	var nonce []byte
	var err error
	if h.tip, err = scanTip(row, &h.epoch.Number, &nonce, &h.sealed, &schema); err != nil {
		return err
	}
	copy(h.epoch.Nonce[:], nonce)
	if err := known(schema); err != nil || w.admits == nil {
		return err
	}
	return w.admits(h)
}

// open refuses everything in a sealed store, and what was done under another epoch.
func (h head) open(under *term.Epoch) error {
	switch {
	case h.sealed != "":
		return fmt.Errorf("%w: %s", stored.ErrSealed, h.sealed)
	case under != nil && (under.IsZero() || *under != h.epoch):
		return fmt.Errorf("%w (epoch %s)", stored.ErrEpoch, h.epoch)
	}
	return nil
}

// requireStandbys refuses the transaction if its COMMIT would not be safe from the loss of this server.
func (e *Engine) requireStandbys(b *pgx.Batch) {
	ask := standbys
	if !e.synchronous {
		ask = durability
	}
	b.Queue(ask).QueryRow(func(row pgx.Row) error {
		columns := make([]string, 4)
		if err := row.Scan(&columns[0], &columns[1], &columns[2], &columns[3]); err != nil {
			return err
		}
		k := keptIn(columns)
		k.without = !e.synchronous
		return k.refusal()
	})
}

// commit ends the transaction. A COMMIT that was sent is waited for, even if the caller no longer does. The server is
// asked for its standbys again in the same round trip: whoever empties synchronous_standby_names ends the wait of every
// COMMIT, without a warning.
func (e *Engine) commit(ctx context.Context, conn *pgxpool.Conn, w work) error {
	inTime, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.deadline)
	defer cancel()
	said := conn.Conn().PgConn().CustomData()
	delete(said, warned)
	var tag pgconn.CommandTag
	b := &pgx.Batch{}
	b.Queue("COMMIT").Exec(func(t pgconn.CommandTag) error { tag = t; return nil })
	if !w.local && e.synchronous {
		e.requireStandbys(b)
	}
	err := conn.SendBatch(inTime, b).Close()
	notice, _ := said[warned].(*pgconn.Notice)
	var unsafe *SynchronousError
	switch {
	case tag.String() == "ROLLBACK":
		return e.failed(w.doing, errors.New("the server rolled it back"), false)
	case errors.As(err, &unsafe):
		e.reconnect(err)
		err = fmt.Errorf("the server may have committed it without a standby: %w", err)
	case err == nil && notice != nil: // such as: canceling wait for synchronous replication
		err = fmt.Errorf("the server committed it with a warning: %s (SQLSTATE %s)", notice.Message, notice.Code)
	case err == nil:
		return nil
	case tag.String() != "":
		e.reconnect(err)
		err = &answered{err}
	case conn.Conn().IsClosed():
		e.reconnect(err)
		err = fmt.Errorf("the server did not answer to COMMIT: %w", err)
	}
	err = e.failed(w.doing, err, true)
	var engine *stored.EngineError
	if errors.As(err, &engine) && engine.Ambiguous {
		e.doubts.Add(1)
	}
	return err
}

// rollBack keeps the connection, if the server answers. Otherwise the pool drops it, and that ends the transaction.
func (e *Engine) rollBack(ctx context.Context, conn *pgxpool.Conn) {
	inTime, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.deadline/4)
	defer cancel()
	_, _ = conn.Exec(inTime, "ROLLBACK")
}

// settle waits until the changes that are in doubt have ended, and until a standby has what they left.
func (e *Engine) settle(ctx context.Context) error {
	doubts := e.doubts.Load()
	if e.settled.Load() >= doubts {
		return nil
	}
	if err := e.transact(ctx, work{doing: "find out what became of a change"}); err != nil {
		return err
	}
	e.settled.Store(doubts)
	return nil
}

// acquiring says what a caller waited for in vain.
func (e *Engine) acquiring(err error) error {
	if s := e.pool.Stat(); errors.Is(err, context.DeadlineExceeded) && s.AcquiredConns() == s.MaxConns() {
		return fmt.Errorf("all %d connections are in use: %w", s.MaxConns(), err)
	}
	return err
}
