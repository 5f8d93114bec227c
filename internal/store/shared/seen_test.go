package shared

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/store/stored"
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

func reopenSeen(t *testing.T, dir string) *seen {
	t.Helper()
	s, err := openSeen(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.close() })
	return s
}

func TestWhatWasSeenIsReadBackEvenAfterAcceptingLess(t *testing.T) {
	dir := t.TempDir()
	if s := reopenSeen(t, dir); s.Tip != (stored.Tip{}) {
		t.Errorf("a fresh file has entry %d", s.Seq)
	}
	for _, seq := range []uint64{1, 2, 7, 3} {
		s := reopenSeen(t, dir)
		if err := s.put(tipAt(seq), chain.Hash{9}); err != nil {
			t.Fatal(err)
		}
		if got := reopenSeen(t, dir); got.Tip != tipAt(seq) || got.first != (chain.Hash{9}) {
			t.Errorf("read back entry %d, want %d", got.Seq, seq)
		}
	}
	info, err := os.Stat(filepath.Join(dir, seenFile))
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != seenBytes {
		t.Errorf("the file has mode %v and %d bytes, %v", info.Mode(), info.Size(), err)
	}
}

func TestASlotThatACrashLeftHalfWrittenDoesNotCount(t *testing.T) {
	for slot := range 2 {
		dir := t.TempDir()
		s := reopenSeen(t, dir)
		for seq := uint64(1); seq <= uint64(4+slot); seq++ {
			if err := s.put(tipAt(seq), chain.Hash{9}); err != nil {
				t.Fatal(err)
			}
		}
		newest := s.turn % 2
		if _, err := s.file.WriteAt([]byte("torn"), int64(newest)*slotSize+40); err != nil {
			t.Fatal(err)
		}
		if got := reopenSeen(t, dir); got.Seq != s.Seq-1 {
			t.Errorf("read back entry %d, want %d", got.Seq, s.Seq-1)
		}
	}
}

func TestWhatWasSeenIsNotForgottenBecauseOfDamage(t *testing.T) {
	dir := t.TempDir()
	s := reopenSeen(t, dir)
	for seq := range uint64(3) {
		if err := s.put(tipAt(seq+1), chain.Hash{9}); err != nil {
			t.Fatal(err)
		}
	}
	for slot := range int64(2) {
		if _, err := s.file.WriteAt([]byte("torn"), slot*slotSize+40); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := openSeen(dir); !errors.Is(err, errSeenDamaged) {
		t.Errorf("%v, want that it is damaged", err)
	}
	if err := os.Truncate(filepath.Join(dir, seenFile), 100); err != nil {
		t.Fatal(err)
	}
	if _, err := openSeen(dir); !errors.Is(err, errSeenDamaged) {
		t.Errorf("cut short: %v, want that it is damaged", err)
	}
}
