package storetest

import (
	"testing"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/record"
)

func together(t *testing.T, b Opened) {
	one, two := mustLoad(t, b, "one"), mustLoad(t, b, "two")
	save := func(events ...chain.Event) error {
		return b.SaveTogether(t.Context(), []record.Record{one, two},
			[][]chain.Entry{{entry(events[0])}, {entry(events[1])}})
	}
	if err := save("1", "2"); err != nil {
		t.Fatal(err)
	}
	wantEvents(t, b, "1", "2")
	one, two = mustLoad(t, b, "one"), mustLoad(t, b, "two")
	mustSave(t, b, two, entry("3"))
	wantRetry(t, save("4", "5"))
	wantEvents(t, b, "1", "2", "3")
	if got := mustLoad(t, b, "one").Revision; got != one.Revision {
		t.Errorf("the first record is at revision %d although the second one conflicts, want %d", got, one.Revision)
	}
	one, two = mustLoad(t, b, "one"), mustLoad(t, b, "two")
	if err := b.SaveTogether(t.Context(), []record.Record{one, two}, [][]chain.Entry{{entry("4")}, nil}); err == nil {
		t.Error("a record was saved without an audit entry")
	}
	wantEvents(t, b, "1", "2", "3")
	if r, err := b.Verify(t.Context()); err != nil || !r.Consistent() {
		t.Errorf("the chain after a change of several records: %v, %v", r, err)
	}
}
