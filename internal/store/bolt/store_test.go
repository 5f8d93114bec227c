package bolt

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.etcd.io/bbolt"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/store/storetest"
)

func clock() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

func openIn(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, clock, nil)
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

func stateDir(t *testing.T) string { return filepath.Join(t.TempDir(), "state") }

func save(t *testing.T, s *Store, rec record.Record, events ...string) record.Record {
	t.Helper()
	var entries []chain.Entry
	for _, e := range events {
		entries = append(entries, chain.Entry{Event: chain.Event(e), Actor: "keyd"})
	}
	saved, err := s.Save(t.Context(), rec, entries...)
	if err != nil {
		t.Fatal(err)
	}
	return saved
}

func load(t *testing.T, s *Store, name string) record.Record {
	t.Helper()
	rec, err := s.Load(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func events(t *testing.T, s *Store) []chain.Entry {
	t.Helper()
	var out []chain.Entry
	err := s.Audit(t.Context(), 0, func(c chain.Linked) error {
		out = append(out, c.Entry)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Opened {
		dir := stateDir(t)
		s := openIn(t, dir)
		return storetest.Opened{Backend: s, Reopen: func(t *testing.T) storetest.Backend {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return openIn(t, dir)
		}}
	})
}

func TestOpenMakesPrivateFiles(t *testing.T) {
	dir := stateDir(t)
	openIn(t, dir)
	for path, want := range map[string]fs.FileMode{dir: 0o700, filepath.Join(dir, fileName): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %04o, want %04o", path, got, want)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 1 {
		t.Errorf("the state directory holds %v, want %s only", left, fileName)
	}
}

func TestOpenRefusesADirectoryThatOthersCanEnter(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir, clock, nil)
	if err == nil || !strings.Contains(err.Error(), "chmod 0700 "+dir) {
		t.Errorf("got %v, want the chmod that helps", err)
	}
}

func TestASecondOpenerGetsTheReason(t *testing.T) {
	dir := stateDir(t)
	openIn(t, dir)
	var locked *LockedError
	if _, err := Open(dir, clock, nil); !errors.As(err, &locked) {
		t.Errorf("got %v, want a LockedError", err)
	}
	if _, err := OpenReadOnly(filepath.Join(dir, fileName)); !errors.As(err, &locked) {
		t.Errorf("read only: got %v, want a LockedError", err)
	}
}

func TestTheStateSurvivesTheProcess(t *testing.T) {
	dir := stateDir(t)
	s := openIn(t, dir)
	rec := save(t, s, load(t, s, "k"), "first")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := openIn(t, dir)
	if got := load(t, again, "k").Revision; got != rec.Revision {
		t.Errorf("revision %d, want %d", got, rec.Revision)
	}
	save(t, again, rec, "second")
	report, err := again.Verify(t.Context())
	if err != nil || !report.Consistent() || report.Entries != 2 || report.Records != 1 {
		t.Errorf("got %v, %v, want two entries and one record covered", report, err)
	}
}

func TestEntriesGetTheStoresTimeAndTheRecordsKey(t *testing.T) {
	s := openIn(t, stateDir(t))
	save(t, s, load(t, s, "k"), "first")
	if got := events(t, s)[0]; got.Key != "k" || !got.Time.Equal(clock()) {
		t.Errorf("got %+v", got)
	}
}

func TestAuditContinuesFromANumber(t *testing.T) {
	s := openIn(t, stateDir(t))
	for range batch + 10 {
		if err := s.Append(t.Context(), chain.Entry{Event: "e"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ from, first, count uint64 }{{0, 1, batch + 10}, {1, 1, batch + 10}, {batch, batch,
		11}, {batch + 11, 0, 0}} {
		var first, count uint64
		err := s.Audit(t.Context(), c.from, func(e chain.Linked) error {
			if count == 0 {
				first = e.Seq
			}
			count++
			return nil
		})
		if err != nil || first != c.first || count != c.count {
			t.Errorf("from %d: first %d, count %d, %v; want %d, %d", c.from, first, count, err, c.first, c.count)
		}
	}
}

func TestTheLastEntriesAreReadWithoutTheOthers(t *testing.T) {
	s := openIn(t, stateDir(t))
	for range 30 {
		if err := s.Append(t.Context(), chain.Entry{Event: "e"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		n           int
		first, last uint64
	}{{20, 11, 30}, {100, 1, 30}, {1, 30, 30}} {
		got, err := s.Recent(t.Context(), c.n)
		if err != nil || len(got) == 0 || got[0].Seq != c.first || got[len(got)-1].Seq != c.last {
			t.Errorf("the last %d: %d entries, %v; want %d to %d", c.n, len(got), err, c.first, c.last)
		}
	}
	if got, err := s.Recent(t.Context(), 0); err != nil || len(got) != 0 {
		t.Errorf("the last 0: %v, %v", got, err)
	}
}

var errDisk = errors.New("input/output error")

func TestAFailedCommitWithoutEffectChangesNothing(t *testing.T) {
	s := openIn(t, stateDir(t))
	rec := save(t, s, load(t, s, "k"), "first")
	s.commit = func(tx *bbolt.Tx) error { return errors.Join(errDisk, tx.Rollback()) }
	_, err := s.Save(t.Context(), rec, chain.Entry{Event: "second"})
	if !errors.Is(err, errDisk) || key.ClassOf(err) != key.Retry {
		t.Fatalf("got %v (%v), want the disk's error with class retry", err, key.ClassOf(err))
	}
	if s.Healthy() == nil {
		t.Error("the store calls itself healthy after a failed write")
	}
	s.commit = (*bbolt.Tx).Commit
	save(t, s, rec, "third")
	if s.Healthy() != nil {
		t.Errorf("not healthy after a good write: %v", s.Healthy())
	}
	if got := len(events(t, s)); got != 2 {
		t.Errorf("%d entries, want 2", got)
	}
}

func TestARecordInAnotherCaseIsRefusedAndTheStoreStaysHealthy(t *testing.T) {
	s := openIn(t, stateDir(t))
	save(t, s, load(t, s, "Foo-Key"), "first")
	_, err := s.Save(t.Context(), load(t, s, "foo-key"), chain.Entry{Event: "second"})
	if key.ClassOf(err) != key.Refused || s.Healthy() != nil {
		t.Errorf("%v, and the store says %v", err, s.Healthy())
	}
}

func TestAFailedCommitWithEffectIsAmbiguousAndCheckedLater(t *testing.T) {
	s := openIn(t, stateDir(t))
	rec := save(t, s, load(t, s, "k"), "first")
	s.commit = func(tx *bbolt.Tx) error { return errors.Join(tx.Commit(), errDisk) }
	_, err := s.Save(t.Context(), rec, chain.Entry{Event: "second"})
	if !errors.Is(err, errDisk) || key.ClassOf(err) != key.Ambiguous {
		t.Fatalf("got %v (%v), want the disk's error with class ambiguous", err, key.ClassOf(err))
	}
	s.commit = (*bbolt.Tx).Commit
	before := s.db
	found := load(t, s, "k")
	if s.db == before {
		t.Error("the file was not opened again")
	}
	if found.Revision == rec.Revision {
		t.Fatal("the committed record is not seen")
	}
	save(t, s, found, "third")
}

func TestDamageFoundWhileReopeningIsNamed(t *testing.T) {
	s := openIn(t, stateDir(t))
	rec := save(t, s, load(t, s, "k"), "first")
	s.commit = func(tx *bbolt.Tx) error {
		v := tx.Bucket(bucketRecords).Get([]byte("k"))
		return errors.Join(
			tx.Bucket(bucketRecords).Put([]byte("k"), append(bytes.Clone(v), ' ')),
			tx.Commit(),
			errDisk,
		)
	}
	if _, err := s.Save(t.Context(), rec, chain.Entry{Event: "second"}); err == nil {
		t.Fatal("the failing commit succeeded")
	}
	wantCorrupt := func(err error) {
		t.Helper()
		if !isCorrupt(err) {
			t.Errorf("got %v, want a CorruptError", err)
		}
	}
	_, err := s.Load(t.Context(), "k")
	wantCorrupt(err)
	_, err = s.Save(t.Context(), rec, chain.Entry{Event: "third"})
	wantCorrupt(err)
	wantCorrupt(s.Healthy())
}

func TestAPanicInAWriteIsNamedAndEndsTheStore(t *testing.T) {
	s := openIn(t, stateDir(t))
	rec := load(t, s, "k")
	s.commit = func(*bbolt.Tx) error { panic("assertion failed") }
	_, err := s.Save(t.Context(), rec, chain.Entry{Event: "first"})
	if !isCorrupt(err) || !strings.Contains(err.Error(), "assertion failed") ||
		!strings.Contains(err.Error(), s.path) {
		t.Errorf("got %v, want a CorruptError that names the file", err)
	}
	if _, err := s.Load(t.Context(), "k"); !isCorrupt(err) {
		t.Errorf("then got %v, want the same", err)
	}
}

func TestAClosedStoreReturnsErrClosed(t *testing.T) {
	s := openIn(t, stateDir(t))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(t.Context(), "k"); !errors.Is(err, stored.ErrClosed) {
		t.Errorf("got %v, want stored.ErrClosed", err)
	}
}

func TestMetricsCountOutcomes(t *testing.T) {
	reg := prometheus.NewRegistry()
	s, err := Open(stateDir(t), clock, reg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	rec := load(t, s, "k")
	save(t, s, rec, "first", "second")
	if _, err := s.Save(t.Context(), rec, chain.Entry{}); err == nil {
		t.Fatal("a stale record was saved")
	}
	s.commit = func(*bbolt.Tx) error { return errDisk }
	if err := s.Append(t.Context(), chain.Entry{}); err == nil {
		t.Fatal("the failing disk took an entry")
	}
	want := `# HELP keyd_audit_entries Entries in the audit chain.
# TYPE keyd_audit_entries gauge
keyd_audit_entries 2
# HELP keyd_store_healthy 1 when the last write to the store succeeded, 0 when it failed.
# TYPE keyd_store_healthy gauge
keyd_store_healthy 0
# HELP keyd_store_writes_total Transactions on the store by outcome: ` +
		`done, conflict (the record was changed meanwhile) or failed.
# TYPE keyd_store_writes_total counter
keyd_store_writes_total{outcome="conflict"} 1
keyd_store_writes_total{outcome="done"} 1
keyd_store_writes_total{outcome="failed"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want),
		"keyd_audit_entries", "keyd_store_healthy", "keyd_store_writes_total"); err != nil {
		t.Error(err)
	}
}

func TestAHotBackupOpensAndVerifies(t *testing.T) {
	s := openIn(t, stateDir(t))
	rec := save(t, s, load(t, s, "k"), "first")
	ctx, stop := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	writer.Go(func() {
		for ctx.Err() == nil {
			saved, err := s.Save(ctx, rec, chain.Entry{Event: "busy"})
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
				return
			}
			rec = saved
		}
	})
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		if err := s.BackupFile(t.Context(), filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	stop()
	writer.Wait()

	copied, err := OpenReadOnly(filepath.Join(dir, "c"))
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	if load(t, copied, "k").Revision == 0 {
		t.Error("the backup has no record")
	}
	if _, err := copied.Save(t.Context(), rec, chain.Entry{}); err == nil {
		t.Error("a file opened read only was changed")
	}
	info, err := os.Stat(filepath.Join(dir, "c"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup has mode %v, %v; want 0600", info.Mode(), err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 3 {
		t.Errorf("the backup directory holds %v, %v; want the three backups", left, err)
	}
}

func TestABackupReplacesNothing(t *testing.T) {
	s := openIn(t, stateDir(t))
	path := filepath.Join(t.TempDir(), "backup")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.BackupFile(t.Context(), path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want fs.ErrExist", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "precious" {
		t.Errorf("the file now holds %q", got)
	}
}

func TestACopyThatIsNotAStateIsNoBackup(t *testing.T) {
	path := filepath.Join(t.TempDir(), "backup")
	err := WriteBackup(t.Context(), path, func(w io.Writer) error {
		_, err := w.Write([]byte("half an answer"))
		return err
	})
	if err == nil {
		t.Error("it was accepted")
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file exists: %v", err)
	}
}
