package shared

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/store/bolt"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/store/storetest"
)

// content is all that a walk shows.
type content struct {
	Entries []chain.Linked
	Records map[string]string
	Ledgers map[string]string
}

func (c *content) Entry(l chain.Linked) error {
	c.Entries = append(c.Entries, l)
	return nil
}

func (c *content) Record(name string, value []byte) error {
	c.Records[name] = string(value)
	return nil
}

func (c *content) Ledger(name string, value []byte) error {
	c.Ledgers[name] = string(value)
	return nil
}

func contentOf(t *testing.T, from stored.Walker) *content {
	t.Helper()
	c := &content{Records: map[string]string{}, Ledgers: map[string]string{}}
	if err := from.Walk(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return c
}

// full puts something of everything into a store: more entries than one change or one page has, more records than one
// change, a ledger in parts.
func full(t *testing.T, s *Store) {
	t.Helper()
	for _, rec := range records(stored.MaxRecords + 3) {
		for range 2 {
			rec = save(t, s, rec, asked("1"), asked("2"), asked("3"), asked("4"))
		}
	}
	v, err := s.LoadVault(t.Context(), "https://v.vault.azure.net")
	if err == nil {
		_, err = s.SaveVault(t.Context(), v, chain.Entry{Event: chain.KEKRequested, Actor: "uid 0 (root)"})
	}
	if err == nil {
		err = s.SaveLedger(t.Context(), "small", []byte("small"))
	}
	if err == nil {
		err = s.SaveLedger(t.Context(), "large", bytes.Repeat([]byte("\x00large"), stored.MaxLedger/6))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestABackupIsAStateFileWithTheSameBytesAndComesBack(t *testing.T) {
	s := on(t, storetest.NewMemory(clock), "one", t.TempDir())
	full(t, s)
	path := filepath.Join(t.TempDir(), "backup")
	f, err := os.Create(path)
	if err == nil {
		err = errors.Join(s.Backup(t.Context(), f), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(s.dir); err != nil || len(left) != 1 {
		t.Errorf("the state directory holds %v, %v; want only what was seen", left, err)
	}
	file, err := bolt.OpenReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if r, err := file.Verify(t.Context()); err != nil || !r.Consistent() {
		t.Errorf("the file does not verify: %v, %v", r, err)
	}
	want := contentOf(t, s)
	if diff := cmp.Diff(want, contentOf(t, file)); diff != "" {
		t.Errorf("the file is not the same (-store +file):\n%s", diff)
	}

	engine := storetest.NewMemory(clock)
	if err := Fill(t.Context(), engine, file); err != nil {
		t.Fatal(err)
	}
	again := on(t, engine, "one", t.TempDir())
	if diff := cmp.Diff(want, contentOf(t, again)); diff != "" {
		t.Errorf("the way back made something else (-store +engine):\n%s", diff)
	}
	if err := Fill(t.Context(), engine, file); err != nil {
		t.Errorf("a second copy, of which nothing is missing: %v", err)
	}
	save(t, again, load(t, again, "key-0"), asked("on"))
	if err := Fill(t.Context(), engine, file); err == nil || !strings.Contains(err.Error(), "a chain of its own") {
		t.Errorf("a copy into a store that went on: %v", err)
	}
}

// A copy that ends in the middle has records that its entries cover, and no other ones.
func TestACopyThatWasCutShortIsConsistent(t *testing.T) {
	s := on(t, storetest.NewMemory(clock), "one", t.TempDir())
	full(t, s)
	cut := errors.New("the line is cut")
	f := &faulty{Engine: storetest.NewMemory(clock), faults: []fault{
		func(_ stored.Change, do func() error) error { return do() },
		func(stored.Change, func() error) error { return cut },
	}}
	if err := Fill(t.Context(), f, s); !errors.Is(err, cut) {
		t.Fatalf("%v, want that it is cut", err)
	}
	on(t, f, "one", t.TempDir()) // verifies it
}

// changing is an engine whose records change while somebody walks over them.
type changing struct {
	*storetest.Memory
	before func(name string)
}

func (e *changing) Record(ctx context.Context, name string) ([]byte, stored.Tip, error) {
	if before := e.before; before != nil {
		before(name)
	}
	return e.Memory.Record(ctx, name)
}

func TestAStoreIsWalkedAsItWasAtOneMomentWhileHostsWrite(t *testing.T) {
	e := &changing{Memory: storetest.NewMemory(clock)}
	one, two := on(t, e, "one", t.TempDir()), on(t, e.Memory, "two", t.TempDir())
	for _, rec := range records(4) {
		save(t, one, rec, asked("made"))
	}
	writes := 0
	e.before = func(name string) {
		if name == "key-2" && writes < 3 { // the record that is read next, and one that was read before
			writes++
			save(t, two, load(t, two, name), asked("changed"))
			save(t, two, load(t, two, "key-0"), asked("changed"))
		}
	}
	path := filepath.Join(t.TempDir(), "copy")
	if err := bolt.CopyFile(t.Context(), path, one); err != nil { // verifies the copy
		t.Error(err)
	}
	writes = 0
	if r, err := one.Verify(t.Context()); err != nil || !r.Consistent() || r.Records != 4 {
		t.Errorf("%v, %v; want 4 records, consistent", r, err)
	}
}

func TestALedgerThatWasNotSavedWholeIsTheOneBefore(t *testing.T) {
	m := storetest.NewMemory(clock)
	cut := errors.New("the line is cut")
	e := &cutting{Memory: m}
	s := on(t, e, "one", t.TempDir())
	var before []byte
	for n := range 3 {
		after := bytes.Repeat([]byte{byte('a' + n)}, 3*stored.MaxBlob)
		for e.left = range 6 {
			e.err = cut
			if err := s.SaveLedger(t.Context(), "k", after); !errors.Is(err, cut) {
				t.Fatalf("%v, want that it is cut", err)
			}
			if got, err := s.LoadLedger(t.Context(), "k"); err != nil || !bytes.Equal(got, before) {
				t.Fatalf("cut after %d blobs, the ledger has %d bytes, %v; want the one before", e.left, len(got), err)
			}
		}
		e.err = nil
		if err := s.SaveLedger(t.Context(), "k", after); err != nil {
			t.Fatal(err)
		}
		before = after
	}
	if got, err := s.LoadLedger(t.Context(), "k"); err != nil || !bytes.Equal(got, before) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := s.PutStatus(t.Context(), "x", []byte("a status")); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Verify(t.Context()); err != nil || !r.Consistent() {
		t.Errorf("%v, %v", r, err)
	}
	if err := m.PutBlob(t.Context(), stored.Blob{Name: "ledger/k", Value: []byte("\x00\x01damaged")}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.LoadLedger(t.Context(), "k"); key.ClassOf(err) != key.Refused {
		t.Errorf("a damaged ledger: %v", err)
	}
}

// cutting is an engine that fails after some more blobs.
type cutting struct {
	*storetest.Memory
	left int
	err  error
}

func (e *cutting) PutBlob(ctx context.Context, b stored.Blob) error {
	if e.err == nil {
		return e.Memory.PutBlob(ctx, b)
	}
	if e.left == 0 {
		return e.err
	}
	e.left--
	return e.Memory.PutBlob(ctx, b)
}
