package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/store/stored"
)

func engineEmpty(t *testing.T, e *engines) {
	wantState(t, "opening", e, state{Heads: map[string]stored.Head{}, Records: map[string][]byte{}})
	if got := tip(t, e); got != (stored.Tip{}) {
		t.Errorf("the tip is %+v", got)
	}
	if value, at, err := e.Record(t.Context(), "k"); value != nil || at != (stored.Tip{}) || err != nil {
		t.Errorf("a record: %q at %+v, %v", value, at, err)
	}
	if blob, err := e.Blob(t.Context(), "b"); blob != nil || err != nil {
		t.Errorf("a blob: %q, %v", blob, err)
	}
	if names, err := e.Blobs(t.Context(), ""); len(names) != 0 || err != nil {
		t.Errorf("blobs: %q, %v", names, err)
	}
	if l, err := e.Lease(t.Context()); !l.Epoch.IsZero() || l.Holder != "" || l.Left > 0 || err != nil {
		t.Errorf("a lease: %+v, %v", l, err)
	}
	if why, err := e.Sealed(t.Context()); why != "" || err != nil {
		t.Errorf("it is sealed: %q, %v", why, err)
	}
	if _, err := e.Warnings(t.Context()); err != nil {
		t.Errorf("warnings: %v", err)
	}
	if e.Name() == "" {
		t.Error("it has no name")
	}
}

func engineSeen(t *testing.T, e *engines) {
	other := e.another(t)
	first := saving(t, stored.Tip{}, "k", stored.Head{}, `{"n":1}`, 2)
	commit(t, e, first)
	second := saving(t, ends(first), "https://v.example", stored.Head{}, "any bytes \x00\xff", 1)
	commit(t, other, second)
	third := noting(t, ends(second), "noted")
	commit(t, e, third)
	want := state{Tip: ends(third), Heads: map[string]stored.Head{}, Records: map[string][]byte{},
		Entries: slices.Concat(first.Entries, second.Entries, third.Entries)}
	for _, r := range slices.Concat(first.Records, second.Records) {
		want.Heads[r.Name], want.Records[r.Name] = headOf(t, r), r.Value
	}
	for name, e := range map[string]stored.Engine{"one handle": e, "the other": other} {
		wantState(t, "three changes, by "+name, e, want)
		if got := tip(t, e); got != want.Tip {
			t.Errorf("%s has the tip %+v, want %+v", name, got, want.Tip)
		}
		if _, at, err := e.Record(t.Context(), "k"); at != want.Tip || err != nil {
			t.Errorf("%s has a record at the tip %+v, %v; want %+v", name, at, err, want.Tip)
		}
	}
}

func headOf(t *testing.T, c stored.Changed) stored.Head {
	t.Helper()
	return must[stored.Head](t)(stored.ParseHead(c.Name, c.Value))
}

func engineReopened(t *testing.T, e *engines) {
	commit(t, e, saving(t, stored.Tip{}, "k", stored.Head{}, "1", 3))
	lease := take(t, e, "one", 1)
	if err := e.PutBlob(t.Context(), stored.Blob{Name: "b", Value: []byte("blob")}); err != nil {
		t.Fatal(err)
	}
	want, later := stateOf(t, e), e.another(t)
	wantState(t, "opening again", later, want)
	if got, err := later.Blob(t.Context(), "b"); string(got) != "blob" || err != nil {
		t.Errorf("the blob is %q, %v", got, err)
	}
	if got, err := later.Lease(t.Context()); got.Epoch != lease.Epoch || got.Holder != "one" || err != nil {
		t.Errorf("the lease is %+v, %v; want %+v", got, err, lease)
	}
}

func engineParts(t *testing.T, e *engines) {
	c := noting(t, stored.Tip{}, "1", "2", "3", "4", "5", "6", "7")
	commit(t, e, c)
	d := noting(t, ends(c), "8", "9")
	commit(t, e, d)
	all := slices.Concat(c.Entries, d.Entries)
	for _, q := range []struct {
		from  uint64
		limit int
		want  []chain.Linked
	}{{0, 3, all[:3]}, {1, 3, all[:3]}, {3, 2, all[2:4]}, {7, 2, all[6:8]}, {6, 99, all[5:]}, {9, 1, all[8:]},
		{10, 5, nil}, {99, 5, nil}} {
		got, err := e.Entries(t.Context(), q.from, q.limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(got)+len(q.want) > 0 && !cmp.Equal(q.want, got) {
			t.Errorf("at most %d from entry %d on (-want +got):\n%s", q.limit, q.from, cmp.Diff(q.want, got))
		}
	}
}

// engineRefusals changes one condition of a good change at a time.
func engineRefusals(t *testing.T, e *engines) {
	first := saving(t, stored.Tip{}, "k", stored.Head{}, "1", 1)
	commit(t, e, first)
	second := saving(t, ends(first), "k", headOf(t, first.Records[0]), "2", 2)
	commit(t, e, second)
	lease := take(t, e, "one", 1)
	now, was := ends(second), headOf(t, second.Records[0])
	before := stateOf(t, e)
	refused := func(what string, c stored.Change, want error) {
		t.Helper()
		wantRefused(t, what, e.Commit(t.Context(), c), want)
		wantState(t, what, e, before)
	}

	otherHash := now
	otherHash.Hash[31]++
	for what, at := range map[string]stored.Tip{
		"an earlier tip": ends(first), "an empty chain": {}, "the tip's number with another hash": otherHash,
		"a later tip": {Seq: now.Seq + 1, Hash: now.Hash},
	} {
		refused(what, noting(t, at, "noted"), stored.ErrTip)
		refused(what+" with a record", saving(t, at, "new", stored.Head{}, "3", 1), stored.ErrTip)
	}
	otherSum := was
	otherSum.Sum[31]++
	for what, head := range map[string]stored.Head{
		"an earlier revision": headOf(t, first.Records[0]), "no record": {},
		"the revision with another sum": otherSum, "the sum with another revision": {Sum: was.Sum, Revision: 99},
	} {
		refused(what, saving(t, now, "k", head, "3", 1), stored.ErrRecord)
	}
	refused("a record that is not there", saving(t, now, "absent", was, "3", 1), stored.ErrRecord)
	both := saving(t, now, "k", was, "3", 1)
	both.Records = append(both.Records, saving(t, now, "absent", was, "3", 1).Records...)
	refused("one of two records that is not there", both, stored.ErrRecord)
	for what, epoch := range foreign(lease.Epoch) {
		c := saving(t, now, "k", was, "3", 1)
		c.Epoch = &epoch
		refused(what, c, stored.ErrEpoch)
	}
	good := saving(t, now, "k", was, "3", 1)
	good.Epoch = &lease.Epoch
	commit(t, e, good)
}

func engineAnybody(t *testing.T, e *engines) {
	take(t, e, "one", 1)
	c := saving(t, stored.Tip{}, "k", stored.Head{}, "1", 1)
	commit(t, e.another(t), c)
	if got := tip(t, e); got != ends(c) {
		t.Errorf("the tip is %+v, want %+v", got, ends(c))
	}
}

func engineHeads(t *testing.T, e *engines) {
	at, was := stored.Tip{}, stored.Head{}
	for i := range 3 {
		c := saving(t, at, "k", was, fmt.Sprint(i), i+1)
		commit(t, e, c)
		at, was = ends(c), headOf(t, c.Records[0])
		heads, seen, err := e.Heads(t.Context())
		if diff := cmp.Diff(map[string]stored.Head{"k": was}, heads); diff != "" || seen != at || err != nil {
			t.Errorf("heads at %+v, %v; want them at %+v (-want +got):\n%s", seen, err, at, diff)
		}
	}
}

func engineLargest(t *testing.T, e *engines) {
	c := stored.Change{}
	for i := range stored.MaxEntries - stored.MaxRecords {
		c.Entries = append(c.Entries, follow(t, c, "", chain.Event(fmt.Sprint("noted ", i)), ""))
	}
	for i := range stored.MaxRecords {
		name := fmt.Sprintf("key-%d", i)
		r := stored.NewRecord(name, uint64(len(c.Entries)+1), bytes.Repeat([]byte("x"), 12<<10))
		c.Records = append(c.Records, stored.Changed{Name: name, Value: r.Encode()})
		c.Entries = append(c.Entries, follow(t, c, name, "saved", r.Sum.String()))
	}
	if size := c.Size(); size > stored.MaxChange || size < stored.MaxChange*3/4 {
		t.Fatalf("the change has %d bytes, and should have nearly %d", size, stored.MaxChange)
	}
	commit(t, e, c)
	if got := stateOf(t, e); len(got.Records) != stored.MaxRecords || !cmp.Equal(c.Entries, got.Entries) {
		t.Errorf("%d records and %d entries, not as they were saved", len(got.Records), len(got.Entries))
	}
	blob := bytes.Repeat([]byte("\x00\xfe"), stored.MaxBlob/2)
	if err := e.PutBlob(t.Context(), stored.Blob{Name: "large", Value: blob}); err != nil {
		t.Fatal(err)
	}
	if got, err := e.Blob(t.Context(), "large"); !bytes.Equal(got, blob) || err != nil {
		t.Errorf("a blob of %d bytes, %v; want the %d that were put", len(got), err, len(blob))
	}
}

func engineCancelled(t *testing.T, e *engines) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	before := stateOf(t, e)
	for what, do := range map[string]func() error{
		"a change": func() error { return e.Commit(ctx, noting(t, stored.Tip{}, "1")) },
		"a blob":   func() error { return e.PutBlob(ctx, stored.Blob{Name: "b", Value: []byte("1")}) },
		"a lease":  func() error { _, err := e.Take(ctx, "one", [16]byte{1}, time.Hour); return err },
		"a look":   func() error { _, err := e.Tip(ctx); return err },
	} {
		if err := do(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want the context's error", what, err)
		}
	}
	wantState(t, "cancelled changes", e, before)
}

// engineRace has two hosts write as fast as they can. Each links anew when the other one was first.
func engineRace(t *testing.T, e *engines) {
	const workers, each = 3, 8 // of each handle
	var group sync.WaitGroup
	for h, handle := range []stored.Engine{e, e.another(t)} {
		for w := range workers {
			group.Go(func() {
				for i := range each {
					if err := noteUntilDone(t, handle, chain.Event(fmt.Sprintf("%d-%d-%d", h, w, i))); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	group.Wait()
	found, seen, last := stateOf(t, e), map[chain.Event]bool{}, chain.Linked{}
	for _, l := range found.Entries {
		if l.Seq != last.Seq+1 || l.Prev != last.Hash || !chain.Links(l.Prev, l.Seq, l.Key, l.Body, l.Hash) {
			t.Fatalf("entry %d does not follow entry %d", l.Seq, last.Seq)
		}
		seen[l.Event], last = true, l
	}
	if n := 2 * workers * each; len(found.Entries) != n || len(seen) != n {
		t.Errorf("%d entries of %d changes, want %d", len(found.Entries), len(seen), n)
	}
	if found.Tip != (stored.Tip{Seq: last.Seq, Hash: last.Hash}) {
		t.Errorf("the tip is %+v, and the last entry %d", found.Tip, last.Seq)
	}
}

// patience is after how long an engine that always fails fails the test: no slow machine takes as long.
const patience = 5 * time.Minute

// noteUntilDone goes on for as long as the engine says that certainly nothing happened.
func noteUntilDone(t *testing.T, e stored.Engine, event chain.Event) error {
	for hopeless := time.Now().Add(patience); ; {
		at, err := e.Tip(t.Context())
		if err == nil {
			err = e.Commit(t.Context(), noting(t, at, event))
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, stored.ErrTip) && key.ClassOf(err) != key.Retry || time.Now().After(hopeless) {
			return err
		}
	}
}

func engineSealed(t *testing.T, e *engines) {
	commit(t, e, noting(t, stored.Tip{}, "1"))
	other, before := e.another(t), stateOf(t, e)
	if err := e.Seal(t.Context(), "moved to the other place"); err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]stored.Engine{"one handle": e, "the other": other} {
		if why, err := e.Sealed(t.Context()); why != "moved to the other place" || err != nil {
			t.Errorf("%s: sealed because %q, %v", name, why, err)
		}
		wantRefused(t, name+": a change", e.Commit(t.Context(), noting(t, before.Tip, "2")), stored.ErrSealed)
		blob := stored.Blob{Name: "b", Value: []byte("1")}
		wantRefused(t, name+": a blob", e.PutBlob(t.Context(), blob), stored.ErrSealed)
		_, err := e.Take(t.Context(), name, [16]byte{1}, time.Hour)
		wantRefused(t, name+": a lease", err, stored.ErrSealed)
		wantState(t, name+" was sealed", e, before)
	}
}
