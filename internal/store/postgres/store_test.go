package postgres_test

import (
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/store/postgres"
	"github.com/keyd-project/keyd/internal/store/shared"
	"github.com/keyd-project/keyd/internal/store/storetest"
)

// The store of several hosts keeps the contract of every store on a real PostgreSQL, with the least rights.
func TestTheContractOfAStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Opened {
		s := server(t)
		url, dir := s.URL(daemon, database(t, s)), t.TempDir()
		host := func(t *testing.T) *shared.Store {
			t.Helper()
			e, err := postgres.Open(options(url))
			must(t, err)
			s, err := shared.Open(t.Context(), e, shared.Options{
				Dir: dir, Host: "one", Now: time.Now, CallTime: time.Minute,
			})
			must(t, err)
			t.Cleanup(func() { must(t, s.Close()) })
			return s
		}
		one := host(t)
		return storetest.Opened{Backend: storetest.Acting(one), Reopen: func(t *testing.T) storetest.Backend {
			must(t, one.Close())
			return storetest.Acting(host(t))
		}}
	})
}
