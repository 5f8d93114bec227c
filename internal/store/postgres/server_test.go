package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/softhsm-test/postgrestest"
)

// locked has another session hold the row of keyd.head until free is called.
func locked(t *testing.T, s *postgrestest.Server, name string) (free func()) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), fmt.Sprintf("host=%s port=%d user=%s dbname=%s", s.Sockets, s.Port,
		postgrestest.Superuser, name))
	must(t, err)
	var once sync.Once
	free = func() { once.Do(func() { must(t, c.Close(context.Background())) }) }
	t.Cleanup(free)
	_, err = c.Exec(t.Context(), "BEGIN; SELECT FROM keyd.head FOR UPDATE")
	must(t, err)
	return free
}

func lockWaits(name string) string {
	return "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '" + name + "'"
}

func TestARowThatAnotherKeepsEndsInAnErrorAfterWhichNothingHappened(t *testing.T) {
	_, s, name := fresh(t)
	o := options(s.URL(daemon, name))
	o.Deadline = 200 * time.Millisecond
	e, free := open(t, o), locked(t, s, name)
	c := after(t, stored.Tip{}, "1")
	wantCertain(t, "a change", e.Commit(t.Context(), c))
	free()
	patient := open(t, options(s.URL(daemon, name)))
	wantTip(t, patient, stored.Tip{})
	must(t, patient.Commit(t.Context(), c))
}

func TestAStatementThatIsSlowEndsInAnErrorAfterWhichNothingHappened(t *testing.T) {
	_, s, name := fresh(t)
	sql(t, s, name, `CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(600);
		RETURN NEW; END'; CREATE TRIGGER slow BEFORE INSERT ON keyd.entry FOR EACH ROW EXECUTE FUNCTION slow()`)
	o := options(s.URL(daemon, name))
	o.Deadline = 500 * time.Millisecond
	c := after(t, stored.Tip{}, "1")
	wantCertain(t, "a change", open(t, o).Commit(t.Context(), c))
	sql(t, s, name, "DROP TRIGGER slow ON keyd.entry") // which waits until the server has given up, too
	patient := open(t, options(s.URL(daemon, name)))
	wantTip(t, patient, stored.Tip{})
	must(t, patient.Commit(t.Context(), c))
}

func TestWhenAllConnectionsAreInUseNothingHappens(t *testing.T) {
	e, s, name := fresh(t)
	free := locked(t, s, name)
	const all = 8
	var group sync.WaitGroup
	errs := make([]error, all)
	for i := range all {
		group.Go(func() { errs[i] = e.Commit(t.Context(), after(t, stored.Tip{}, "1")) })
	}
	must(t, s.Until("postgres", lockWaits(name), fmt.Sprint(all)))
	soon, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := e.Commit(soon, after(t, stored.Tip{}, "1"))
	if wantCertain(t, "one more", err); !strings.Contains(fmt.Sprint(err), "all 8 connections are in use") {
		t.Errorf("%v does not say that all connections are in use", err)
	}
	free()
	group.Wait()
	made := 0
	for _, err := range errs {
		switch {
		case err == nil:
			made++
		case !errors.Is(err, stored.ErrTip):
			t.Error(err)
		}
	}
	if made != 1 {
		t.Errorf("%d changes with one number were made, want 1", made)
	}
}

func TestAServerThatTakesNoWritesIsReadAndNotWritten(t *testing.T) {
	e, s, name := fresh(t)
	c := after(t, stored.Tip{}, "1")
	must(t, e.Commit(t.Context(), c))
	const ask = "SHOW default_transaction_read_only"
	must(t, s.Set("default_transaction_read_only = on"))
	t.Cleanup(func() {
		must(t, s.Set("default_transaction_read_only = off"))
		must(t, s.Until("postgres", ask, "off"))
	})
	must(t, s.Until("postgres", ask, "on"))
	for what, err := range map[string]error{
		"an open connection": e.Commit(t.Context(), after(t, end(c), "2")),
		"a new one":          open(t, options(s.URL(daemon, name))).Commit(t.Context(), after(t, end(c), "2")),
	} {
		if wantCertain(t, what, err); !strings.Contains(fmt.Sprint(err), "read") {
			t.Errorf("%s: %v does not say that the server is read-only", what, err)
		}
	}
	wantTip(t, e, end(c))
}

// A standby whose clock is far behind, once promoted, shows a lease that would hold for long.
func TestALeaseThatEndsTooFarAwayIsOver(t *testing.T) {
	e, s, name := fresh(t)
	_, err := e.Take(t.Context(), "one", [16]byte{1}, 15*time.Minute)
	must(t, err)
	for ends, held := range map[string]bool{"25 minutes": true, "1 hour": false} {
		sql(t, s, name, "UPDATE keyd.head SET until = clock_timestamp() + interval '"+ends+"'")
		lease, err := e.Lease(t.Context())
		if must(t, err); lease.Left > 0 != held {
			t.Errorf("a lease of 15 minutes that ends in %s has %s left", ends, lease.Left)
		}
	}
	sql(t, s, name, "UPDATE keyd.head SET until = clock_timestamp() + interval '1 hour'")
	lease, err := e.Take(t.Context(), "two", [16]byte{2}, 15*time.Minute)
	if err != nil || lease.Epoch.Number != 2 || lease.Left > 15*time.Minute {
		t.Errorf("took %+v, %v", lease, err)
	}
}
