package postgrestest_test

import (
	"testing"

	"github.com/keyd-project/keyd/softhsm-test/postgrestest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sql(t *testing.T, s *postgrestest.Server, statements string) string {
	t.Helper()
	out, err := s.SQL("postgres", statements)
	must(t, err)
	return out
}

func TestAStandbyHasWhatThePrimaryCommittedAndIsPromoted(t *testing.T) {
	a := postgrestest.Start(t, postgrestest.Options{})
	b := a.Standby(t, "b", postgrestest.Options{})
	must(t, a.Synchronise("b", 1))
	sql(t, a, "CREATE TABLE t AS SELECT 1 AS n")
	must(t, b.Until("postgres", "SELECT n FROM t", "1"))
	must(t, a.Crash())
	must(t, b.Promote())
	must(t, b.Set("synchronous_standby_names = ''"))
	must(t, b.Until("postgres", "SHOW synchronous_standby_names", ""))
	sql(t, b, "UPDATE t SET n = 2")
	must(t, a.Run())
	if got := sql(t, a, "SELECT n FROM t"); got != "1" {
		t.Errorf("the old primary has %q, want 1", got)
	}
}
