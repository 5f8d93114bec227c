package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/keyd-project/keyd/internal/store/postgres"
	"github.com/keyd-project/keyd/internal/store/stored"
)

func TestInitMakesTheTablesOnceAndKeepsWhatIsInThem(t *testing.T) {
	s := server(t)
	name := fmt.Sprintf("keyd%d", one.databases.Add(1))
	sql(t, s, "postgres", fmt.Sprintf("CREATE DATABASE %s OWNER %s", name, owner))
	o := options(s.URL(owner, name))
	_, err := open(t, o).Tip(t.Context())
	if wantCertain(t, "no tables", err); err == nil || !strings.Contains(err.Error(), "keyd store init") {
		t.Errorf("without tables: %v", err)
	}
	from, to, err := postgres.Init(t.Context(), o)
	if from != 0 || to != 1 || err != nil {
		t.Fatalf("made the tables from schema %d to %d, %v", from, to, err)
	}
	c := after(t, stored.Tip{}, "1")
	must(t, open(t, o).Commit(t.Context(), c))
	from, to, err = postgres.Init(t.Context(), o)
	if from != 1 || to != 1 || err != nil {
		t.Errorf("the second time from %d to %d, %v", from, to, err)
	}
	wantTip(t, open(t, o), end(c))
}

func TestTwoInitsAtOnceMakeTheTablesOnce(t *testing.T) {
	s := server(t)
	name := fmt.Sprintf("keyd%d", one.databases.Add(1))
	sql(t, s, "postgres", fmt.Sprintf("CREATE DATABASE %s OWNER %s", name, owner))
	var group sync.WaitGroup
	errs := make([]error, 2)
	for i := range errs {
		group.Go(func() { _, _, errs[i] = postgres.Init(t.Context(), options(s.URL(owner, name))) })
	}
	group.Wait()
	if errs[0] != nil && errs[1] != nil {
		t.Errorf("%v; %v", errs[0], errs[1])
	}
	wantTip(t, open(t, options(s.URL(owner, name))), stored.Tip{})
}

func TestTablesOfAnotherKeydAreRefused(t *testing.T) {
	s := server(t)
	name := database(t, s)
	running := open(t, options(s.URL(daemon, name)))
	wantTip(t, running, stored.Tip{})
	for schema, remedy := range map[int]string{99: "install the newer keyd", 0: "keyd store init"} {
		sql(t, s, name, fmt.Sprintf("UPDATE keyd.head SET schema = %d", schema))
		_, later := open(t, options(s.URL(daemon, name))).Tip(t.Context())
		for what, err := range map[string]error{
			"a change on an open connection": running.Commit(t.Context(), after(t, stored.Tip{}, "1")),
			"a read on a new one":            later,
		} {
			var found *postgres.SchemaError
			if !errors.As(err, &found) || found.Found != schema || !strings.Contains(err.Error(), remedy) {
				t.Errorf("schema %d: %s: %v, want %q", schema, what, err, remedy)
			}
			wantCertain(t, what, err)
		}
	}
	sql(t, s, name, "UPDATE keyd.head SET schema = 99")
	if _, _, err := postgres.Init(t.Context(), options(s.URL(owner, name))); !errors.As(
		err,
		new(*postgres.SchemaError),
	) {
		t.Errorf("Init over a newer schema: %v", err)
	}
}

// The contract runs as this role, so it has enough. This is what it may not.
func TestTheDaemonsRoleCannotChangeOrRemoveEntries(t *testing.T) {
	e, s, name := fresh(t)
	must(t, e.Commit(t.Context(), after(t, stored.Tip{}, "1")))
	before := sql(t, s, name, "SELECT * FROM keyd.entry")
	for _, statement := range []string{
		"UPDATE keyd.entry SET body = ''", "DELETE FROM keyd.entry", "TRUNCATE keyd.entry", "DROP TABLE keyd.entry",
		"ALTER TABLE keyd.entry DROP CONSTRAINT entry_pkey", "ALTER TABLE keyd.entry DISABLE TRIGGER ALL",
		"DELETE FROM keyd.record", "TRUNCATE keyd.record", "DROP TABLE keyd.record", "DELETE FROM keyd.head",
		"INSERT INTO keyd.head (one, schema, seq, hash) SELECT false, schema, seq, hash FROM keyd.head",
		"UPDATE keyd.head SET schema = 99", "DROP SCHEMA keyd CASCADE", "CREATE TABLE keyd.other (n int)",
	} {
		_, err := s.SQL(name, fmt.Sprintf("SET ROLE %q; %s", daemon, statement))
		if err == nil || !strings.Contains(err.Error(), "ERROR") {
			t.Errorf("%s: %v, want a refusal", statement, err)
		}
	}
	if now := sql(t, s, name, "SELECT * FROM keyd.entry"); now != before {
		t.Errorf("the entries were %q and are %q", before, now)
	}
	if warnings, err := e.Warnings(t.Context()); err != nil ||
		strings.Contains(fmt.Sprint(warnings), "remove audit") {
		t.Errorf("warnings for the daemon's role: %q, %v", warnings, err)
	}
	warnings, err := open(t, options(s.URL(owner, name))).Warnings(t.Context())
	if err != nil || !strings.Contains(fmt.Sprint(warnings), "may change and remove audit entries") {
		t.Errorf("warnings for the owner: %q, %v", warnings, err)
	}
}
