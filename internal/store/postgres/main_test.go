package postgres_test

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyd-project/keyd/internal/store/postgres"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/store/storetest"
	"github.com/keyd-project/keyd/softhsm-test/postgrestest"
)

// The roles on the test's servers: who makes the tables, and the daemon's with the least rights.
const (
	owner  = "owner"
	daemon = "keyd-daemon"
	tables = "tables"
)

// one is a server that all tests share that leave it as it is, each with a database of its own.
var one = struct {
	sync.Mutex
	*postgrestest.Server
	databases atomic.Int64
}{}

func TestMain(m *testing.M) {
	code := m.Run()
	if one.Server != nil {
		if err := one.Remove(); err != nil {
			fmt.Println(err)
			code = 1
		}
	}
	os.Exit(code)
}

// server is the server that tests share.
func server(t *testing.T) *postgrestest.Server {
	t.Helper()
	one.Lock()
	defer one.Unlock()
	if one.Server == nil {
		s, err := postgrestest.Create(postgrestest.Options{})
		must(t, err)
		one.Server = s
		must(t, s.Run())
		prepare(t, s)
	}
	return one.Server
}

// prepare makes the roles, and a database with empty tables that others are copied from.
func prepare(t *testing.T, s *postgrestest.Server) {
	t.Helper()
	sql(t, s, "postgres", fmt.Sprintf(`CREATE ROLE %s LOGIN; CREATE ROLE %q LOGIN`, owner, daemon))
	sql(t, s, "postgres", fmt.Sprintf("CREATE DATABASE %s OWNER %s", tables, owner))
	from, to, err := postgres.Init(t.Context(), postgres.Options{URL: s.URL(owner, tables)})
	must(t, err)
	if from != 0 || to == 0 {
		t.Fatalf("a new database went from schema %d to %d", from, to)
	}
	sql(t, s, tables, postgres.Grants(daemon))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sql(t *testing.T, s *postgrestest.Server, database, statements string) string {
	t.Helper()
	out, err := s.SQL(database, statements)
	must(t, err)
	return out
}

// database makes an empty store, and returns its database.
func database(t *testing.T, s *postgrestest.Server) string {
	t.Helper()
	name := fmt.Sprintf("keyd%d", one.databases.Add(1))
	sql(t, s, "postgres", fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", name, tables))
	return name
}

// open opens an engine as the daemon does, until the test ends.
func open(t *testing.T, o postgres.Options) *postgres.Engine {
	t.Helper()
	e, err := postgres.Open(o)
	must(t, err)
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func TestTheContractOfAnEngine(t *testing.T) {
	storetest.RunEngine(t, func(t *testing.T) storetest.Handles {
		s := server(t)
		url := s.URL(daemon, database(t, s))
		return func(t *testing.T) stored.Engine {
			t.Helper()
			e, err := postgres.Open(postgres.Options{URL: url})
			must(t, err)
			return e
		}
	})
}
