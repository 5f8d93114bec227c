package hsm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

func mustRead(t *testing.T, dir string) *madePairs {
	t.Helper()
	m, err := readMadePairs(dir)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *madePairs) mustSave(t *testing.T, at time.Time, name string) key.ID {
	t.Helper()
	id := newID(t)
	m.add(madeLine{id, name, at})
	if err := m.save(at, name, id); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestAPairThatWasMadeIsAppendedToTheNote(t *testing.T) {
	dir, at := t.TempDir(), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	m := mustRead(t, dir)
	m.mustSave(t, at, "first")
	before, err := os.Stat(m.path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range fewLines {
		m.mustSave(t, at, fmt.Sprint("key-", n))
	}
	after, err := os.Stat(m.path)
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) {
		t.Error("the file was written anew")
	}
	again := mustRead(t, dir)
	if n := len(again.byKey); n != fewLines+1 {
		t.Errorf("a restart knows the pairs of %d keys", n)
	}
}

func TestTheNoteDoesNotGrowWithThePairsOfOtherDays(t *testing.T) {
	dir, at := t.TempDir(), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	m := mustRead(t, dir)
	for range 10 * fewLines {
		m.mustSave(t, at, "one")
		at = at.Add(time.Hour)
	}
	data, err := os.ReadFile(m.path)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(data, []byte("\n")); n > 2*(24+fewLines) {
		t.Errorf("the file has %d lines", n)
	}
	if n := len(mustRead(t, dir).within(at, "one")); n != 23 {
		t.Errorf("a restart knows %d pairs of the last day", n)
	}
}

// After what happens to the file, the next pair is noted beside the first one.
func TestTheNoteOutlivesWhatHappensToItsFile(t *testing.T) {
	for name, happens := range map[string]func(m *madePairs) (*madePairs, error){
		"a crash cut a line off": func(m *madePairs) (*madePairs, error) {
			err := appendDurable(m.path, []byte(`{"id":"0011`))
			again, readErr := readMadePairs(filepath.Dir(m.path))
			return again, errors.Join(err, readErr)
		},
		"somebody removed it while keyd ran": func(m *madePairs) (*madePairs, error) { return m, os.Remove(m.path) },
	} {
		dir, at := t.TempDir(), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		m := mustRead(t, dir)
		m.mustSave(t, at, "one")
		m, err := happens(m)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		m.mustSave(t, at, "one")
		if n := len(mustRead(t, dir).within(at, "one")); n != 2 {
			t.Errorf("%s: there are %d pairs", name, n)
		}
	}
}
