package shared

import (
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/store/storetest"
	"github.com/keyd-project/keyd/internal/term"
)

func clock() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// on opens a store on an engine, as a host with this state directory. No slow machine makes a call last too long.
func on(t *testing.T, engine stored.Engine, host, dir string) *Store {
	t.Helper()
	return with(t, engine, Options{Dir: dir, Host: host, Now: clock, CallTime: time.Minute})
}

func with(t *testing.T, engine stored.Engine, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), engine, o)
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

func TestASharedStoreKeepsTheContractOfAStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Opened {
		engine, dir := storetest.NewMemory(time.Now), t.TempDir()
		s := on(t, engine, "one", dir)
		return storetest.Opened{Backend: storetest.Acting(s), Reopen: func(t *testing.T) storetest.Backend {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return storetest.Acting(on(t, engine, "one", dir))
		}}
	})
}

func TestEachHostKeepsTheContractOfAStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Opened {
		engine := storetest.NewMemory(time.Now)
		other := on(t, engine, "two", t.TempDir())
		s := on(t, engine, "one", t.TempDir())
		return storetest.Opened{Backend: storetest.Acting(s), Reopen: func(*testing.T) storetest.Backend {
			return storetest.Acting(other)
		}}
	})
}

// lead has a host lead, and returns the epoch of its term.
func lead(t *testing.T, s *Store, nonce byte) term.Epoch {
	t.Helper()
	l, err := s.Take(t.Context(), s.host, [16]byte{nonce}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return l.Epoch
}

// asked is an entry that is anybody's.
func asked(reason string) chain.Entry {
	fields := map[string]string{"reason": reason}
	return chain.Entry{Event: chain.RotationRequested, Actor: "uid 0 (root)", Fields: fields}
}

func load(t *testing.T, s *Store, name string) record.Record {
	t.Helper()
	rec, err := s.Load(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func save(t *testing.T, s *Store, rec record.Record, entries ...chain.Entry) record.Record {
	t.Helper()
	saved, err := s.Save(t.Context(), rec, entries...)
	if err != nil {
		t.Fatal(err)
	}
	return saved
}

// reasons are the reasons in the chain, in order.
func reasons(t *testing.T, s *Store) (found []string) {
	t.Helper()
	err := s.Audit(t.Context(), 1, func(l chain.Linked) error {
		found = append(found, l.Fields["reason"])
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := s.Verify(t.Context()); err != nil || !r.Consistent() {
		t.Errorf("the store does not verify: %v, %v", r, err)
	}
	return found
}
