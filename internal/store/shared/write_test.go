package shared

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/store/storetest"
	"github.com/keyd-project/keyd/internal/term"
)

// together has all writes wait while another one is under way, and returns what each of them said.
func together(s *Store, writes ...func() error) []error {
	errs := make([]error, len(writes))
	var running sync.WaitGroup
	s.writing <- struct{}{}
	for i, write := range writes {
		running.Go(func() { errs[i] = write() })
		untilWaiting(s, i+1) // so that they wait in this order
	}
	<-s.writing
	running.Wait()
	return errs
}

// untilWaiting returns once so many writes wait.
func untilWaiting(s *Store, n int) {
	for waits := -1; waits < n; {
		s.waiting.mu.Lock()
		waits = len(s.waiting.list)
		s.waiting.mu.Unlock()
		runtime.Gosched()
	}
}

// saves are saves of records, under an epoch or as anybody's.
func saves(ctx context.Context, s *Store, recs ...record.Record) (writes []func() error) {
	for _, rec := range recs {
		writes = append(writes, func() error { _, err := s.Save(ctx, rec, asked("of "+rec.Key)); return err })
	}
	return writes
}

func records(n int) (recs []record.Record) {
	for i := range n {
		recs = append(recs, record.Record{Schema: record.SchemaVersion, Key: fmt.Sprintf("key-%d", i)})
	}
	return recs
}

func TestWritesThatWaitShareOneChange(t *testing.T) {
	i := newInstance(t)
	if err := errors.Join(together(i.one, saves(t.Context(), i.one, records(8)...)...)...); err != nil {
		t.Fatal(err)
	}
	if i.engine.count() != 1 {
		t.Errorf("eight saves took %d commits, want 1", i.engine.count())
	}
	if got := len(reasons(t, i.two)); got != 8 {
		t.Errorf("%d entries, want 8", got)
	}
}

func TestWhatIsRefusedInAGroupRefusesNoOther(t *testing.T) {
	i := newInstance(t)
	recs := records(4)
	recs[2].Revision = 99
	recs = append(recs, record.Record{Schema: record.SchemaVersion, Key: "KEY-1"})
	errs := together(i.one, saves(t.Context(), i.one, recs...)...)
	var conflict *stored.ConflictError
	var otherCase *key.CaseError
	if !errors.As(errs[2], &conflict) || conflict.Changed() != "key-2" || conflict.Had != 99 || conflict.Stored != 0 {
		t.Errorf("a stale revision: %v", errs[2])
	}
	if !errors.As(errs[4], &otherCase) || otherCase.Record != "key-1" {
		t.Errorf("a name in another case: %v", errs[4])
	}
	if err := errors.Join(errs[0], errs[1], errs[3]); err != nil {
		t.Error(err)
	}
	if got := len(reasons(t, i.two)); got != 3 {
		t.Errorf("%d entries, want 3", got)
	}
	if err := i.one.Healthy(); err != nil {
		t.Errorf("a conflict made the store unhealthy: %v", err)
	}
}

// What a host knows of another host's records may be old. It looks before it refuses.
func TestARevisionThatAnotherHostSavedIsNoConflict(t *testing.T) {
	i := newInstance(t)
	save(t, i.two, load(t, i.two, "k"), asked("there"))
	save(t, i.one, load(t, i.one, "k"), asked("here"))
	stale := load(t, i.two, "k")
	save(t, i.one, load(t, i.one, "k"), asked("again"))
	_, err := i.two.Save(t.Context(), stale, asked("late"))
	var conflict *stored.ConflictError
	if !errors.As(err, &conflict) || conflict.Stored != 3 {
		t.Errorf("%v, want a conflict with revision 3", err)
	}
	wantReasons(t, i, "there", "here", "again")
}

func TestTheLeadersWriteNeedsItsEpochAndAnybodysDoesNot(t *testing.T) {
	i := newInstance(t)
	lead(t, i.one, 1)
	held := chain.Entry{Event: chain.KeyHeld, Actor: "keyd"}
	rec := load(t, i.one, "k")
	if _, err := i.one.Save(t.Context(), rec, held); err == nil {
		t.Error("a leader's event was saved without an epoch")
	}
	if err := i.one.Append(t.Context(), asked("with it"), held); err == nil {
		t.Error("a leader's event was saved among others without an epoch")
	}
	wantReasons(t, i)
	save(t, i.two, rec, asked("of a follower"))
	wantReasons(t, i, "of a follower")
}

func TestALateWriteOfALeaderIsRefusedAndThoseBesideItAreNot(t *testing.T) {
	i := newInstance(t)
	late := term.With(t.Context(), lead(t, i.one, 1))
	if err := i.one.Release(t.Context(), lead(t, i.one, 2)); err != nil {
		t.Fatal(err)
	}
	lead(t, i.two, 3)
	recs := records(3)
	writes := append(saves(late, i.one, recs[0]), saves(t.Context(), i.one, recs[1:]...)...)
	errs := together(i.one, writes...)
	var epoch *stored.EpochError
	if !errors.As(errs[0], &epoch) || epoch.Had.Nonce != [16]byte{1} || key.ClassOf(errs[0]) != key.Retry {
		t.Errorf("the late write: %v", errs[0])
	}
	if err := errors.Join(errs[1:]...); err != nil {
		t.Error(err)
	}
	wantReasons(t, i, "of key-1", "of key-2")
	if err := i.one.Healthy(); err != nil {
		t.Errorf("the end of a term made the store unhealthy: %v", err)
	}
}

func TestWritesUnderTwoEpochsShareNoChange(t *testing.T) {
	i := newInstance(t)
	before := term.With(t.Context(), lead(t, i.one, 1))
	now := term.With(t.Context(), lead(t, i.one, 2))
	recs := records(2)
	errs := together(i.one, append(saves(before, i.one, recs[0]), saves(now, i.one, recs[1])...)...)
	if !errors.Is(errs[0], stored.ErrEpoch) || errs[1] != nil {
		t.Errorf("over: %v; in force: %v", errs[0], errs[1])
	}
	wantReasons(t, i, "of key-1")
}

func TestAGroupHasNoMoreThanEveryEngineTakes(t *testing.T) {
	i := newInstance(t)
	writes := saves(t.Context(), i.one, records(stored.MaxRecords+1)...)
	if err := errors.Join(together(i.one, writes...)...); err != nil {
		t.Fatal(err)
	}
	if i.engine.count() != 2 {
		t.Errorf("%d commits, want 2", i.engine.count())
	}
}

// A caller that gives up while it waits leaves no trace; the one whose write is under way learns what became of it.
func TestRecordsThatNoChangeHoldsTogetherAreRefusedAndThoseThatFitAreNot(t *testing.T) {
	s := on(t, storetest.NewMemory(time.Now), "one", t.TempDir())
	recs := records(stored.MaxRecords + 1)
	entries := make([][]chain.Entry, len(recs))
	for i := range entries {
		entries[i] = []chain.Entry{asked("together")}
	}
	err := s.SaveTogether(t.Context(), recs, entries)
	var much *TooMuchError
	if !errors.As(err, &much) || !much.TooMuch() || much.Records != len(recs) || key.ClassOf(err) != key.Refused {
		t.Errorf("%d records together: %v", len(recs), err)
	}
	if err := s.SaveTogether(t.Context(), recs[1:], entries[1:]); err != nil {
		t.Error(err)
	}
	if got := load(t, s, recs[0].Key).Revision; got != 0 {
		t.Errorf("the record that was not saved has revision %d", got)
	}
}

func TestAWriteThatWaitsEndsWithItsContext(t *testing.T) {
	i := newInstance(t)
	ctx, cancel := context.WithCancel(t.Context())
	entered, leave := make(chan struct{}), make(chan struct{})
	i.engine.faults = []fault{func(_ stored.Change, do func() error) error {
		close(entered)
		<-leave
		return do()
	}}
	var running sync.WaitGroup
	running.Go(func() {
		if err := i.one.Append(ctx, asked("under way")); err != nil {
			t.Error(err)
		}
	})
	<-entered
	waits := make(chan error)
	go func() { waits <- i.one.Append(ctx, asked("waits")) }()
	untilWaiting(i.one, 1)
	cancel()
	if err := <-waits; !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want the context's error", err)
	}
	close(leave)
	running.Wait()
	wantReasons(t, i, "under way")
}

func TestARecordThatIsNotTheChainsIsDamageAndRefused(t *testing.T) {
	m := storetest.NewMemory(clock)
	s := on(t, m, "one", t.TempDir())
	rec := save(t, s, load(t, s, "k"), asked("first"))
	m.Damage(func(records map[string][]byte, _ []chain.Linked) {
		records["k"] = stored.NewRecord("k", rec.Revision, []byte(`{"key":"k"}`)).Encode()
	})
	_, err := s.Save(t.Context(), rec, asked("second"))
	var damaged *DamagedError
	if !errors.As(err, &damaged) || key.ClassOf(err) != key.Refused {
		t.Errorf("a save: %v", err)
	}
	if _, err := Open(t.Context(), m, Options{Dir: t.TempDir(), Now: clock}); !errors.As(err, &damaged) {
		t.Errorf("opening it: %v", err)
	}
}

func TestAnEntryThatDoesNotLinkIsDamage(t *testing.T) {
	m := storetest.NewMemory(clock)
	one, two := on(t, m, "one", t.TempDir()), on(t, m, "two", t.TempDir())
	for range 3 {
		if err := two.Append(t.Context(), asked("there")); err != nil {
			t.Fatal(err)
		}
	}
	m.Damage(func(_ map[string][]byte, entries []chain.Linked) { entries[1].Body = []byte(`{}`) })
	var damaged *DamagedError
	if _, _, err := one.Head(t.Context()); !errors.As(err, &damaged) {
		t.Errorf("%v, want that it is damaged", err)
	}
}

func TestATermWhoseAnswerWasLostIsFoundByItsNonce(t *testing.T) {
	m := storetest.NewMemory(clock)
	f := &lostTake{Memory: m}
	s := on(t, f, "one", t.TempDir())
	if l, err := s.Take(t.Context(), "one", [16]byte{1}, time.Hour); err != nil || l.Epoch.Nonce != [16]byte{1} {
		t.Errorf("it happened: %+v, %v", l, err)
	}
	f.not = true
	if l, err := s.Take(t.Context(), "one", [16]byte{2}, time.Hour); err == nil {
		t.Errorf("it did not happen, and %+v was believed", l)
	}
}

// lostTake is an engine that loses the answer to every Take.
type lostTake struct {
	*storetest.Memory
	not bool
}

func (e *lostTake) Take(
	ctx context.Context, holder string, nonce [16]byte, ttl time.Duration,
) (stored.Lease, error) {
	if !e.not {
		if _, err := e.Memory.Take(ctx, holder, nonce, ttl); err != nil {
			return stored.Lease{}, err
		}
	}
	return stored.Lease{}, lost()
}

func TestTheMetricsAreThoseOfAStoreOnOneHost(t *testing.T) {
	reg := prometheus.NewRegistry()
	s, err := Open(t.Context(), storetest.NewMemory(clock), Options{Dir: t.TempDir(), Now: clock, Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	rec := load(t, s, "k")
	save(t, s, rec, asked("1"))
	if _, err := s.Save(t.Context(), rec, asked("2")); err == nil {
		t.Fatal("a stale record was saved")
	}
	for name, want := range map[string]int{"keyd_audit_entries": 1, "keyd_store_healthy": 1,
		"keyd_store_writes_total": 3, "keyd_store_write_duration_seconds": 1} {
		if n, err := testutil.GatherAndCount(reg, name); n != want || err != nil {
			t.Errorf("%s: %d series, %v; want %d", name, n, err, want)
		}
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	for what, err := range closedCalls(t, s) {
		if !errors.Is(err, stored.ErrClosed) {
			t.Errorf("%s on a closed store: %v", what, err)
		}
	}
}

// closedCalls are calls of a closed store.
func closedCalls(t *testing.T, s *Store) map[string]error {
	_, load := s.Load(t.Context(), "k")
	_, _, head := s.Head(t.Context())
	return map[string]error{"load": load, "head": head, "append": s.Append(t.Context(), asked("late"))}
}

func TestADirectoryThatIsNotThereIsNamed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "absent")
	if _, err := Open(t.Context(), storetest.NewMemory(clock), Options{Dir: dir, Now: clock}); !errors.Is(
		err,
		os.ErrNotExist,
	) {
		t.Errorf("%v", err)
	}
}

func TestASealedStoreRefusesEveryWriteAndSaysWhere(t *testing.T) {
	i := newInstance(t)
	rec := load(t, i.one, "k")
	if err := i.engine.Seal(t.Context(), "moved to etcd at db1"); err != nil {
		t.Fatal(err)
	}
	for what, err := range writes(t, i.one) {
		var sealed *SealedError
		named := errors.As(err, &sealed) && strings.Contains(err.Error(), "etcd at db1")
		if !named || key.ClassOf(err) != key.Refused {
			t.Errorf("%s: %v, want that it was moved", what, err)
		}
	}
	if got := load(t, i.one, "k").Revision; got != rec.Revision {
		t.Errorf("the record is at revision %d, want %d", got, rec.Revision)
	}
}
