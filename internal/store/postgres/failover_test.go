package postgres_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/store/postgres"
	"github.com/keyd-project/keyd/internal/store/shared"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/softhsm-test/postgrestest"
)

// untilSaid repeats a write until the store says what becomes of it: connections to a server that is gone break first.
// Each error before that says that nothing happened.
func untilSaid(t *testing.T, write func() error) (err error) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var engine *stored.EngineError
		if err = write(); !errors.As(err, &engine) {
			return err
		}
	}
	return err
}

// A standby that missed a commit is promoted: the host that saw the commit stops every host, until a person goes on.
func TestAPromotedStandbyThatMissedACommitStopsEveryHost(t *testing.T) {
	t.Parallel()
	a := postgrestest.Start(t, postgrestest.Options{})
	prepare(t, a)
	sql(t, a, "postgres", fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", store, tables))
	b := a.Standby(t, "b", postgrestest.Options{})
	host := func(name string) *shared.Store {
		o := synchronous(a, b)
		o.Synchronous = false
		e, err := postgres.Open(o)
		must(t, err)
		s, err := shared.Open(t.Context(), e, shared.Options{
			Dir: t.TempDir(), Host: name, Now: time.Now, CallTime: time.Minute,
		})
		must(t, err)
		t.Cleanup(func() { must(t, s.Close()) })
		return s
	}
	one, two := host("one"), host("two")
	note := func(s *shared.Store, reason string) error {
		return s.Append(t.Context(), chain.Entry{Event: chain.KeyPaused, Key: "k", Actor: "uid 0 (root)",
			Fields: map[string]string{"reason": reason}})
	}
	must(t, note(one, "kept"))
	must(t, b.Until(store, "SELECT count(*) FROM keyd.entry", "1"))
	must(t, b.Stop())
	must(t, note(one, "missed"))
	must(t, a.Crash())
	must(t, b.Run())
	must(t, b.Promote())

	var missing *shared.HeadMissing
	err := untilSaid(t, func() error { return note(one, "late") })
	if !errors.As(err, &missing) || missing.Seen.Seq != 2 || missing.Found.Seq != 1 {
		t.Errorf("the host that saw the missed commit: %v", err)
	}
	var halted *shared.HaltedError
	err = untilSaid(t, func() error { return note(two, "late") })
	if !errors.As(err, &halted) || halted.Halt.Host != "one" {
		t.Errorf("the other host: %v", err)
	}
	must(t, one.Accept(t.Context(), "uid 0 (root)", "the disk of the old primary is gone"))
	must(t, note(two, "on"))
	must(t, note(one, "on"))
	if r, err := two.Verify(t.Context()); err != nil || !r.Consistent() || r.Entries != 4 {
		t.Errorf("%v, %v; want four entries", r, err)
	}
}
