package etcd

import (
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/store/shared"
	"github.com/keyd-project/keyd/internal/store/storetest"
)

// The store of several hosts keeps the contract of every store on a real etcd.
func TestTheContractOfAStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Opened {
		c, dir := fresh(t, running), t.TempDir()
		host := func(t *testing.T) *shared.Store {
			t.Helper()
			e, err := Open(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			s, err := shared.Open(t.Context(), e, shared.Options{
				Dir: dir, Host: "one", Now: time.Now, CallTime: time.Minute,
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			return s
		}
		one := host(t)
		return storetest.Opened{Backend: storetest.Acting(one), Reopen: func(t *testing.T) storetest.Backend {
			if err := one.Close(); err != nil {
				t.Fatal(err)
			}
			return storetest.Acting(host(t))
		}}
	})
}
