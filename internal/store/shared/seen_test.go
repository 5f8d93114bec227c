package shared

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/store/bolt"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/store/storetest"
)

// countFlushes counts how often a host flushes what it saw, and has the flushes fail for as long as fail says so.
func countFlushes(s *Store) (flushes *int, fail *error) {
	flushes, fail = new(int), new(error)
	flush := s.known.seen.flush
	s.known.seen.flush = func(f *os.File) error {
		*flushes++
		if *fail != nil {
			return *fail
		}
		return flush(f)
	}
	return flushes, fail
}

func TestAHostRemembersWhatItSawWithOneFlush(t *testing.T) {
	i := newInstance(t)
	flushes, _ := countFlushes(i.one)
	wantFlushes := func(what string, want int) {
		t.Helper()
		if *flushes != want {
			t.Errorf("%s took %d flushes, want %d", what, *flushes, want)
		}
		*flushes = 0
	}
	rec := save(t, i.one, load(t, i.one, "k"), asked("1"), asked("2"))
	wantFlushes("a save", 1)
	save(t, i.one, rec, asked("3"))
	wantFlushes("the next save", 1)
	if err := errors.Join(together(i.one, saves(t.Context(), i.one, records(8)...)...)...); err != nil {
		t.Fatal(err)
	}
	wantFlushes("eight saves at once", 1)
	load(t, i.one, "k")
	head(t, i.one)
	wantFlushes("reading what is known", 0)
	for range 3 {
		i.elsewhere(t)
	}
	head(t, i.one)
	wantFlushes("seeing three entries of another host", 1)
	i.engine.faults = []fault{notHappened}
	if err := i.one.Append(t.Context(), asked("again")); err != nil {
		t.Fatal(err)
	}
	wantFlushes("a save that was made twice", 1)
}

// A save is done once the engine has it. What the host cannot remember of it stops the next one.
func TestAHostThatCannotRememberWhatItSawWritesNoMore(t *testing.T) {
	i := newInstance(t)
	_, fail := countFlushes(i.one)
	*fail = errors.New("no space left on device")
	if err := i.one.Append(t.Context(), asked("1")); err != nil {
		t.Errorf("a save that the engine has: %v", err)
	}
	err := i.one.Append(t.Context(), asked("2"))
	if !errors.Is(err, *fail) || key.ClassOf(err) != key.Retry || i.one.Healthy() == nil {
		t.Errorf("%v (%v), and the store says %v", err, key.ClassOf(err), i.one.Healthy())
	}
	if i.engine.count() != 1 {
		t.Errorf("%d commits, want 1", i.engine.count())
	}
	*fail = nil
	if err := i.one.Append(t.Context(), asked("3")); err != nil {
		t.Error(err)
	}
	wantReasons(t, i, "1", "3")
}

func tipAt(seq uint64) stored.Tip { return stored.Tip{Seq: seq, Hash: chain.Hash{byte(seq)}} }

// seenIn opens what was seen, as the only one, until the test calls close.
func seenIn(t *testing.T, dir string) *seen {
	t.Helper()
	s, err := openSeen(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// readSeen reads what was seen.
func readSeen(t *testing.T, dir string) seen {
	t.Helper()
	s := seenIn(t, dir)
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	return *s
}

// writeSeen has these heads seen in turn, and damages these slots then.
func writeSeen(t *testing.T, dir string, seqs []uint64, torn ...uint64) {
	t.Helper()
	s := seenIn(t, dir)
	for _, seq := range seqs {
		if err := s.put(tipAt(seq), chain.Hash{9}); err != nil {
			t.Fatal(err)
		}
	}
	for _, slot := range torn {
		if _, err := s.file.WriteAt([]byte("torn"), int64(slot)*slotSize+40); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

func TestWhatWasSeenIsReadBackEvenAfterAcceptingLess(t *testing.T) {
	dir := t.TempDir()
	if s := readSeen(t, dir); s.Tip != (stored.Tip{}) {
		t.Errorf("a fresh file has entry %d", s.Seq)
	}
	for _, seq := range []uint64{1, 2, 7, 3} {
		writeSeen(t, dir, []uint64{seq})
		if got := readSeen(t, dir); got.Tip != tipAt(seq) || got.first != (chain.Hash{9}) {
			t.Errorf("read back entry %d, want %d", got.Seq, seq)
		}
	}
	info, err := os.Stat(filepath.Join(dir, SeenFile))
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != seenBytes {
		t.Errorf("the file has mode %v and %d bytes, %v", info.Mode(), info.Size(), err)
	}
}

func TestASlotThatACrashLeftHalfWrittenDoesNotCount(t *testing.T) {
	for _, seqs := range [][]uint64{{1, 2, 3, 4}, {1, 2, 3, 4, 5}} {
		dir, n := t.TempDir(), uint64(len(seqs))
		writeSeen(t, dir, seqs, n%2) // the slot that was written last
		if got := readSeen(t, dir); got.Seq != n-1 {
			t.Errorf("read back entry %d, want %d", got.Seq, n-1)
		}
	}
}

func TestWhatWasSeenIsNotForgottenBecauseOfDamage(t *testing.T) {
	dir := t.TempDir()
	writeSeen(t, dir, []uint64{1, 2, 3}, 0, 1)
	if _, err := openSeen(dir); !errors.Is(err, errSeenDamaged) {
		t.Errorf("%v, want that it is damaged", err)
	}
	if err := os.Truncate(filepath.Join(dir, SeenFile), 100); err != nil {
		t.Fatal(err)
	}
	if _, err := openSeen(dir); !errors.Is(err, errSeenDamaged) {
		t.Errorf("cut short: %v, want that it is damaged", err)
	}
}

func TestTwoDaemonsDoNotShareAStateDirectory(t *testing.T) {
	dir := t.TempDir()
	on(t, storetest.NewMemory(clock), "one", dir)
	_, err := Open(t.Context(), storetest.NewMemory(clock), Options{Dir: dir, Host: "one", Now: clock})
	var locked *bolt.LockedError
	if !errors.As(err, &locked) || key.ClassOf(err) != key.Refused {
		t.Errorf("%v, want that another keyd has it open", err)
	}
}
