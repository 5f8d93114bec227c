package bolt

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// gather saves all records at once, while a write is under way, and returns what each save said.
func gather(t *testing.T, s *Store, all []record.Record) (errs []error) {
	t.Helper()
	errs = make([]error, len(all))
	gatherEach(t, s, all, func(i int, err error) { errs[i] = err })
	return errs
}

// gatherEach does so, and tells of each save as soon as it returns.
func gatherEach(t *testing.T, s *Store, all []record.Record, returned func(i int, err error)) {
	t.Helper()
	var running sync.WaitGroup
	s.writing.Lock()
	for i, rec := range all {
		running.Go(func() {
			_, err := s.Save(t.Context(), rec, chain.Entry{Event: "changed", Actor: "keyd"})
			returned(i, err)
		})
	}
	for waits := 0; waits < len(all); {
		s.waiting.mu.Lock()
		waits = len(s.waiting.list)
		s.waiting.mu.Unlock()
		runtime.Gosched()
	}
	s.writing.Unlock()
	running.Wait()
}

// saved returns a store with n saved records, and counts the commits that follow.
func saved(t *testing.T, n int) (s *Store, all []record.Record, commits *int) {
	t.Helper()
	s = openIn(t, stateDir(t))
	for i := range n {
		rec := record.Record{Key: fmt.Sprintf("key-%d", i), Schema: record.SchemaVersion}
		all = append(all, save(t, s, rec, "made"))
	}
	commits = new(int)
	s.commit = func(tx *bbolt.Tx) error {
		*commits++
		return tx.Commit()
	}
	return s, all, commits
}

func TestWritesThatWaitShareOneTransaction(t *testing.T) {
	s, all, commits := saved(t, 8)
	if err := errors.Join(gather(t, s, all)...); err != nil {
		t.Fatal(err)
	}
	if *commits != 1 {
		t.Errorf("eight saves took %d commits, want 1", *commits)
	}
	if seq, _, err := s.Head(t.Context()); err != nil || seq != 16 {
		t.Errorf("the chain has %d entries, want 16 (%v)", seq, err)
	}
	for _, rec := range all {
		if now := load(t, s, rec.Key); now.Revision <= rec.Revision {
			t.Errorf("%s is at revision %d as before", rec.Key, now.Revision)
		}
	}
	if r, err := s.Verify(t.Context()); err != nil || !r.Consistent() {
		t.Errorf("the chain does not verify: %v %v", r, err)
	}
}

func TestAConflictInAGroupRefusesOnlyItsOwnWrite(t *testing.T) {
	s, all, _ := saved(t, 5)
	all[2].Revision = 99
	for i, err := range gather(t, s, all) {
		if stored.IsConflict(err) != (i == 2) || i != 2 && err != nil {
			t.Errorf("save %d: %v", i, err)
		}
	}
	if seq, _, err := s.Head(t.Context()); err != nil || seq != 9 {
		t.Errorf("the chain has %d entries, want 9 (%v)", seq, err)
	}
}

func TestADiskThatFailsFailsEveryWriteOfTheGroup(t *testing.T) {
	s, all, _ := saved(t, 3)
	s.commit = func(*bbolt.Tx) error { return errors.New("the disk is full") }
	for i, err := range gather(t, s, all) {
		var w *WriteError
		if !errors.As(err, &w) {
			t.Errorf("save %d: %v", i, err)
		}
	}
	s.commit = (*bbolt.Tx).Commit
	for _, rec := range all {
		if now := load(t, s, rec.Key); now.Revision != rec.Revision {
			t.Errorf("%s is at revision %d, want %d as before", rec.Key, now.Revision, rec.Revision)
		}
	}
}

// Two keys whose names differ only in case must not both get a record.
func TestNamesThatDifferInCaseAreRefusedInAGroup(t *testing.T) {
	s, _, _ := saved(t, 1)
	done := 0
	for _, err := range gather(t, s, []record.Record{
		{Key: "twin", Schema: record.SchemaVersion}, {Key: "TWIN", Schema: record.SchemaVersion},
	}) {
		if err == nil {
			done++
		}
	}
	if done != 1 {
		t.Errorf("%d of the two were saved, want 1", done)
	}
}
