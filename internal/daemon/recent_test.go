package daemon

import (
	"fmt"
	"testing"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/record"
)

func TestTheLastEntriesOfOneKeyAreFoundAmongThoseOfOthers(t *testing.T) {
	d, _ := newDaemon(t)
	for i, name := range []string{"one", "two", "one", "two", "one"} {
		rec := record.Record{Schema: record.SchemaVersion, Key: name, Instance: "test"}
		if old, err := d.store.Load(t.Context(), name); err == nil && old.Revision > 0 {
			rec = old
		}
		e := chain.Entry{Event: chain.Event(fmt.Sprint("test ", i)), Actor: "test", Key: name}
		if _, err := d.store.Save(t.Context(), rec, e); err != nil {
			t.Fatal(err)
		}
	}
	found, err := d.recentOf(t.Context(), "ONE", 2)
	if err != nil || len(found) != 2 || found[0].Event != "test 2" || found[1].Event != "test 4" {
		t.Errorf("%v, %+v", err, found)
	}
}
