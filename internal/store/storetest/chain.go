package storetest

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
)

// linked returns the whole audit chain. It requires that each entry has the next number and follows the one before
// it, and that Head is the end.
func linked(t *testing.T, b Backend) []chain.Linked {
	t.Helper()
	found := from(t, b, 0)
	var last chain.Linked
	for _, l := range found {
		if l.Seq != last.Seq+1 {
			t.Fatalf("entry %d comes after entry %d", l.Seq, last.Seq)
		}
		if l.Prev != last.Hash {
			t.Errorf("entry %d does not follow entry %d", l.Seq, last.Seq)
		}
		if !chain.Links(l.Prev, l.Seq, l.Key, l.Body, l.Hash) {
			t.Errorf("entry %d does not match its hash", l.Seq)
		}
		last = l
	}
	if seq, hash := head(t, b); seq != last.Seq || hash != last.Hash {
		t.Errorf("the head is %d %s, and the last entry is %d %s", seq, hash, last.Seq, last.Hash)
	}
	return found
}

// from returns the chain from a number on.
func from(t *testing.T, b Backend, seq uint64) (found []chain.Linked) {
	t.Helper()
	err := b.Audit(t.Context(), seq, func(l chain.Linked) error {
		found = append(found, l)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func head(t *testing.T, b Backend) (uint64, chain.Hash) {
	t.Helper()
	seq, hash, err := b.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return seq, hash
}

// filled puts seven entries into the chain: about one record, about none, and about a second record.
func filled(t *testing.T, b Backend) {
	t.Helper()
	first := mustSave(t, b, mustLoad(t, b, "k"), entry("1"), entry("2"))
	if err := b.Append(t.Context(), entry("3"), entry("4")); err != nil {
		t.Fatal(err)
	}
	mustSave(t, b, mustLoad(t, b, "other"), entry("5"))
	mustSave(t, b, first, entry("6"), entry("7"))
}

func chained(t *testing.T, o Opened) {
	if seq, hash := head(t, o); seq != 0 || hash != (chain.Hash{}) {
		t.Errorf("the head of an empty chain is %d %s", seq, hash)
	}
	filled(t, o)
	entries := linked(t, o)
	if len(entries) != 7 {
		t.Fatalf("%d entries, want 7", len(entries))
	}
	for i, want := range []string{"k", "k", "", "", "other", "k", "k"} {
		if got := entries[i].Key; got != want {
			t.Errorf("entry %d is of key %q, want %q", i+1, got, want)
		}
	}
}

// A record and its entries are written together: the last entry covers the record, and its number is the record's
// revision.
func covered(t *testing.T, o Opened) {
	saved := mustSave(t, o, mustLoad(t, o, "k"), entry("1"), entry("2"))
	entries := linked(t, o)
	if got := entries[len(entries)-1]; saved.Revision != got.Seq || got.Record == "" {
		t.Errorf("revision %d was saved with entry %d, which has the record's sum %q", saved.Revision, got.Seq,
			got.Record)
	}
	if entries[0].Record != "" {
		t.Error("an entry before the last one covers a record, too")
	}
}

func auditFrom(t *testing.T, o Opened) {
	filled(t, o)
	all := linked(t, o)
	for seq, want := range map[uint64][]chain.Linked{0: all, 1: all, 4: all[3:], 7: all[6:], 8: nil, 99: nil} {
		if diff := cmp.Diff(want, from(t, o, seq)); diff != "" {
			t.Errorf("from entry %d on (-want +got):\n%s", seq, diff)
		}
	}
	stop, calls := errors.New("enough"), 0
	err := o.Audit(t.Context(), 2, func(chain.Linked) error { calls++; return stop })
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("%v after %d calls, want the caller's error after one", err, calls)
	}
}

func recent(t *testing.T, o Opened) {
	filled(t, o)
	all := linked(t, o)
	for n, want := range map[int][]chain.Linked{0: nil, 1: all[6:], 3: all[4:], 7: all, 99: all} {
		got, err := o.Recent(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the last %d (-want +got):\n%s", n, diff)
		}
	}
}

func verified(t *testing.T, o Opened) {
	filled(t, o)
	seq, hash := head(t, o)
	got, err := o.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(chain.Report{Entries: seq, Head: hash, Records: 2}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A refusal leaves no trace: neither a conflict, nor a second record in another case, nor an entry about another key.
func refusals(t *testing.T, o Opened) {
	filled(t, o)
	before := linked(t, o)
	stale := mustLoad(t, o, "k")
	stale.Revision--
	stray := entry("stray")
	stray.Key = "other"
	for name, save := range map[string]func() error{
		"a stale revision": func() error { _, err := o.Save(t.Context(), stale, entry("8")); return err },
		"a record made twice": func() error {
			stale.Revision = 0
			_, err := o.Save(t.Context(), stale,
				entry("8"))
			return err
		},
		"a name in another case": func() error {
			_, err := o.Save(t.Context(), mustLoad(t, o, "K"),
				entry("8"))
			return err
		},
		"an entry of another key": func() error {
			_, err := o.Save(t.Context(), mustLoad(t, o, "k"),
				stray)
			return err
		},
		"no entry": func() error { _, err := o.Save(t.Context(), mustLoad(t, o, "k")); return err },
	} {
		if err := save(); err == nil || key.ClassOf(err) == key.Fatal {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
		if diff := cmp.Diff(before, linked(t, o)); diff != "" {
			t.Fatalf("%s changed the chain (-before +after):\n%s", name, diff)
		}
	}
	if err := o.Append(t.Context()); err != nil {
		t.Errorf("nothing to append: %v", err)
	}
	if diff := cmp.Diff(before, linked(t, o)); diff != "" {
		t.Errorf("appending nothing changed the chain (-before +after):\n%s", diff)
	}
}

func reopened(t *testing.T, o Opened) {
	filled(t, o)
	before, rec := linked(t, o), mustLoad(t, o, "k")
	again := o.Reopen(t)
	if diff := cmp.Diff(before, linked(t, again)); diff != "" {
		t.Errorf("the chain after a restart (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(rec, mustLoad(t, again, "k")); diff != "" {
		t.Errorf("the record after a restart (-before +after):\n%s", diff)
	}
	saved := mustSave(t, again, rec, entry("8"))
	if after := linked(t, again); len(after) != 8 || saved.Revision != 8 {
		t.Errorf("%d entries and revision %d, want 8", len(after), saved.Revision)
	}
}
