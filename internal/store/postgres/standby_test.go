package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/keyd-project/keyd/internal/store/postgres"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/softhsm-test/postgrestest"
)

// pair is a primary with a synchronous standby, and an engine that requires it.
type pair struct {
	a, b   *postgrestest.Server
	engine *postgres.Engine
}

// store is their database.
const store = "store"

// newPair makes both. They trust everybody.
func newPair(t *testing.T) *pair {
	t.Helper()
	a := postgrestest.Start(t, postgrestest.Options{})
	prepare(t, a)
	sql(t, a, "postgres", fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", store, tables))
	b := a.Standby(t, "b", postgrestest.Options{})
	must(t, a.Synchronise("b", 1))
	return &pair{a, b, open(t, synchronous(a))}
}

func synchronous(servers ...*postgrestest.Server) postgres.Options {
	o := options(fmt.Sprintf("postgres://%s@%s/%s?target_session_attrs=read-write", daemon,
		postgrestest.Hosts(servers...), store))
	o.Synchronous = true
	return o
}

func wantSynchronous(t *testing.T, what string, err error, remedy string) {
	t.Helper()
	wantCertain(t, what, err)
	var s *postgres.SynchronousError
	if !errors.As(err, &s) || !strings.Contains(err.Error(), remedy) {
		t.Errorf("%s: %v, want an error that says %q", what, err, remedy)
	}
}

// One test: to make the servers is what takes time.
func TestAStandbyThatStops(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	e := p.engine
	lease, err := e.Take(t.Context(), "one", [16]byte{1}, time.Hour)
	must(t, err)
	kept := after(t, stored.Tip{}, "kept")
	kept.Epoch = &lease.Epoch
	must(t, e.Commit(t.Context(), kept))
	if warnings, err := e.Warnings(t.Context()); err != nil || strings.Contains(fmt.Sprint(warnings), "standby") {
		t.Errorf("with a standby: %q, %v", warnings, err)
	}

	t.Run("a commit that would not be safe is refused, with a remedy", func(t *testing.T) { unsafe(t, p, end(kept)) })
	tip, err := e.Tip(t.Context())
	must(t, err)
	t.Run("of several servers the one with its standby is taken", func(t *testing.T) { several(t, p) })
	t.Run("a standby that hangs leaves a commit ambiguous, and nobody sees it before the standby has it",
		func(t *testing.T) { hangs(t, p, tip) })
	tip, err = e.Tip(t.Context())
	must(t, err)
	t.Run("a commit whose wait was cancelled is ambiguous until the standby has it",
		func(t *testing.T) { cancelled(t, p, tip) })
	tip, err = e.Tip(t.Context())
	must(t, err)
	t.Run("a commit that somebody told not to wait is ambiguous until a standby has it",
		func(t *testing.T) { released(t, p, tip) })
	t.Run("an error after the commit says nothing about it", func(t *testing.T) { errs(t, p) })
	must(t, p.b.Stop())
	must(t, p.a.Until("postgres", "SELECT count(*) FROM pg_stat_replication", "0"))
	tip, err = e.Tip(t.Context())
	must(t, err)
	t.Run("without a standby nothing is changed, and all can be read", func(t *testing.T) { without(t, p, tip) })
	t.Run("a promoted standby that missed a commit has an earlier tip", func(t *testing.T) { missed(t, p, tip) })
}

// unsafe has settings and rights with which nobody knows whether a standby has a commit.
func unsafe(t *testing.T, p *pair, tip stored.Tip) {
	for setting, required := range map[string][2]bool{"off": {true, true}, "local": {true, false}} {
		sql(t, p.a, store, fmt.Sprintf("ALTER ROLE %q SET synchronous_commit = %s", daemon, setting))
		for i, on := range []bool{true, false} {
			o := synchronous(p.a)
			o.Synchronous = on
			_, err := open(t, o).Take(t.Context(), "one", [16]byte{9}, time.Hour)
			if what := fmt.Sprintf("%s, synchronous %t", setting, on); required[i] {
				wantSynchronous(t, what, err, "ALTER SYSTEM SET synchronous_commit = on")
			} else if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	sql(t, p.a, store, fmt.Sprintf("ALTER ROLE %q RESET synchronous_commit", daemon))

	sql(t, p.a, store, "CREATE ROLE blind LOGIN; "+
		strings.ReplaceAll(postgres.Grants("blind"), "GRANT pg_read_all_stats", "-- "))
	o := synchronous(p.a)
	o.URL = strings.Replace(o.URL, daemon, "blind", 1)
	e := open(t, o)
	wantSynchronous(t, "a role that may not see standbys", e.Commit(t.Context(), after(t, tip, "1")),
		"GRANT pg_read_all_stats")

	must(t, p.a.Set("synchronous_standby_names = 'FIRST 2 (b, c)'"))
	must(t, p.a.Until("postgres", "SHOW synchronous_standby_names", "FIRST 2 (b, c)"))
	wantSynchronous(t, "one of two standbys", p.engine.Commit(t.Context(), after(t, tip, "1")), "start the standby")
	must(t, p.a.Synchronise("ANY 1 (b, c)", 1))
	must(t, p.a.Until("postgres", "SELECT sync_state FROM pg_stat_replication", "quorum"))
	c := after(t, tip, "in a quorum")
	must(t, p.engine.Commit(t.Context(), c))
	wantTip(t, p.engine, end(c))
	must(t, p.a.Synchronise("b", 1))
}

// errs has a server commit, and then fail to say which standbys it has, with an error after which a COMMIT would have
// been rolled back.
func errs(t *testing.T, p *pair) {
	o := synchronous(p.a)
	proxy := newProxy(t, postgrestest.Hosts(p.a))
	o.URL = proxy.url(o.URL)
	e := open(t, o)
	tip, err := e.Tip(t.Context())
	must(t, err)
	proxy.atCommit(func(c *passage) {
		var answer []byte
		for _, m := range []pgproto3.BackendMessage{
			&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}, &pgproto3.NoData{},
			&pgproto3.CommandComplete{CommandTag: []byte("COMMIT")},
			&pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: "40001",
				Message: "restart the transaction"},
			&pgproto3.ReadyForQuery{TxStatus: 'I'},
		} {
			more, err := m.Encode(answer)
			must(t, err)
			answer = more
		}
		_, err := c.client.Write(answer)
		must(t, err)
		_ = c.server.Close()
	})
	wantAmbiguous(t, "a COMMIT before an error", e.Commit(t.Context(), after(t, tip, "1")))
}

// several begins with an old primary that nobody stopped: it takes writes, and has no standby any more.
func several(t *testing.T, p *pair) {
	old := server(t)
	name := database(t, old)
	sql(t, p.a, "postgres", fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", name, tables))
	must(t, p.a.Set("synchronous_standby_names = ''"))
	must(t, p.a.Until("postgres", "SHOW synchronous_standby_names", ""))
	o := synchronous(old, p.a)
	o.URL = strings.Replace(o.URL, "/"+store, "/"+name, 1)
	e := open(t, o)
	wantSynchronous(
		t,
		"without any standby",
		e.Commit(t.Context(), after(t, stored.Tip{}, "1")),
		"synchronous_standby_names",
	)
	must(t, p.a.Synchronise("b", 1))
	must(t, e.Commit(t.Context(), after(t, stored.Tip{}, "2")))
	if got := sql(t, p.a, name, "SELECT seq FROM keyd.head"); got != "1" {
		t.Errorf("the server with a standby has %s entries, want 1", got)
	}
}

// hangs has the standby still connected, so that only COMMIT finds out. keyd loses its connection meanwhile.
func hangs(t *testing.T, p *pair, before stored.Tip) {
	must(t, p.b.Pause())
	o, waiting := synchronous(p.a), make(chan *passage, 1)
	proxy := newProxy(t, postgrestest.Hosts(p.a))
	proxy.atCommit(func(c *passage) {
		_, _ = c.server.Write(c.commit)
		waiting <- c
	})
	o.URL = proxy.url(o.URL)
	e, c, done := open(t, o), after(t, before, "while the standby hangs"), make(chan error, 1)
	go func() { done <- e.Commit(t.Context(), c) }()
	must(t, p.a.Until("postgres", waits, "1"))
	proxy.atCommit(nil)
	_ = (<-waiting).client.Close()
	wantAmbiguous(t, "a change", <-done)
	tip := p.tip(t, e, end(c))
	must(t, p.a.Until("postgres", "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'", "1"))
	if _, tip, err := e.Record(t.Context(), "k"); tip != before || err != nil {
		t.Errorf("meanwhile others read the tip %+v, %v; want %+v", tip, err, before)
	}
	if n := sql(t, p.a, "postgres", waits); n != "1" {
		t.Errorf("%s commits wait for the standby still, want 1", n)
	}
	must(t, p.b.Continue())
	must(t, <-tip)
}

// waits counts the commits that wait for a standby.
const waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"

// tip asks for the tip, and says later whether it is that one.
func (p *pair) tip(t *testing.T, e *postgres.Engine, want stored.Tip) <-chan error {
	answer := make(chan error, 1)
	go func() {
		got, err := e.Tip(t.Context())
		if got != want && err == nil {
			err = fmt.Errorf("the tip is %+v, want %+v", got, want)
		}
		answer <- err
	}()
	return answer
}

// again is the engine as soon as it has found a server.
func again(t *testing.T, e *postgres.Engine) *postgres.Engine {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if _, err := e.Tip(t.Context()); err == nil {
			return e
		}
	}
	t.Fatal("no server is found after a minute")
	return nil
}

// cancelled has somebody on the primary end the wait for the standby: PostgreSQL then shows the commit.
func cancelled(t *testing.T, p *pair, tip stored.Tip) {
	must(t, p.b.Pause())
	c := after(t, tip, "cancelled")
	done := make(chan error, 1)
	go func() { done <- p.engine.Commit(t.Context(), c) }()
	must(t, p.a.Until("postgres", waits, "1"))
	sql(t, p.a, "postgres", "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
	err := <-done
	wantAmbiguous(t, "a change", err)
	if !strings.Contains(err.Error(), "01000") {
		t.Errorf("%v does not say what the server warned of", err)
	}
	answer := p.tip(t, p.engine, end(c))
	must(t, p.a.Until("postgres", waits, "1")) // the tip waits for the standby, too
	must(t, p.b.Continue())
	must(t, <-answer)
}

// released has somebody tell the primary to wait for no standby any more. It then answers as if one had the commit.
func released(t *testing.T, p *pair, tip stored.Tip) {
	must(t, p.b.Pause())
	c := after(t, tip, "released")
	done := make(chan error, 1)
	go func() { done <- p.engine.Commit(t.Context(), c) }()
	must(t, p.a.Until("postgres", waits, "1"))
	must(t, p.a.Set("synchronous_standby_names = ''"))
	wantAmbiguous(t, "a change", <-done)
	_, err := p.engine.Tip(t.Context())
	wantSynchronous(t, "the tip", err, "synchronous_standby_names")
	must(t, p.b.Continue())
	must(t, p.a.Synchronise("b", 1))
	wantTip(t, again(t, p.engine), end(c))
}

// without has no standby connected.
func without(t *testing.T, p *pair, tip stored.Tip) {
	e, c := p.engine, after(t, tip, "without")
	lease, err := e.Lease(t.Context())
	must(t, err)
	const remedy = "start the standby"
	wantSynchronous(t, "anybody's change", e.Commit(t.Context(), c), remedy)
	c.Epoch = &lease.Epoch
	wantSynchronous(t, "the leader's change", e.Commit(t.Context(), c), remedy)
	_, err = e.Renew(t.Context(), lease.Epoch, time.Hour)
	wantSynchronous(t, "a renewal", err, remedy)
	_, err = e.Take(t.Context(), "one", [16]byte{2}, time.Hour)
	wantSynchronous(t, "a lease", err, remedy)
	wantTip(t, e, tip)
	if entries, err := e.Entries(t.Context(), 1, 10); len(entries) != 5 || err != nil {
		t.Errorf("read %d entries, %v; want 5", len(entries), err)
	}
	must(t, e.PutBlob(t.Context(), stored.Blob{Name: "host/one", Value: []byte("no standby"), Epoch: &lease.Epoch}))
	must(t, e.Release(t.Context(), lease.Epoch))
	warnings, err := e.Warnings(t.Context())
	if err != nil || !strings.Contains(fmt.Sprint(warnings), "0 of 1 synchronous standbys are there") {
		t.Errorf("the warnings are %q, %v", warnings, err)
	}
}

// missed commits on a primary without its standby, whose operator gave up on it, and then has the standby promoted.
func missed(t *testing.T, p *pair, tip stored.Tip) {
	must(t, p.a.Set("synchronous_standby_names = ''"))
	must(t, p.a.Until("postgres", "SHOW synchronous_standby_names", ""))
	o := synchronous(p.a, p.b)
	wantSynchronous(t, "a change", open(t, o).Commit(t.Context(), after(t, tip, "lost")), "synchronous_standby_names")
	o.Synchronous = false
	e, c := open(t, o), after(t, tip, "lost")
	must(t, e.Commit(t.Context(), c))
	wantTip(t, e, end(c))
	must(t, p.a.Crash())
	must(t, p.b.Run())
	must(t, p.b.Promote())
	must(t, p.b.Set("synchronous_standby_names = ''"))
	must(t, p.b.Until("postgres", "SHOW synchronous_standby_names", ""))
	wantTip(t, again(t, e), tip)
	c = after(t, tip, "another with the same number")
	must(t, e.Commit(t.Context(), c))
	wantTip(t, e, end(c))
}
