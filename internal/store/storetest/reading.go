package storetest

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/key"
)

// changed: who knows the revisions need not read the records that have not changed.
func changed(t *testing.T, b Opened) {
	revisions := func(want map[string]uint64) {
		t.Helper()
		got, err := b.Revisions(t.Context())
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
	revisions(map[string]uint64{})
	one := mustSave(t, b, mustLoad(t, b, "one"), entry("made"))
	two := mustSave(t, b, mustLoad(t, b, "two"), entry("made"))
	v, err := b.LoadVault(t.Context(), "https://v.vault.azure.net")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.SaveVault(t.Context(), v, entry("made")); err != nil {
		t.Fatal(err)
	}
	revisions(map[string]uint64{"one": one.Revision, "two": two.Revision})
	one = mustSave(t, b, one, entry("changed"))
	revisions(map[string]uint64{"one": one.Revision, "two": two.Revision})
}

// apart: what is loaded is its reader's own, however often it is loaded.
func apart(t *testing.T, b Opened) {
	rec := mustLoad(t, b, "k")
	rec.Requests = []key.Request{{ID: "1", Without: []string{"https://v"}}}
	rec.Known = map[string][]string{"https://v": {"1"}}
	mustSave(t, b, rec, entry("made"))
	first, want := mustLoad(t, b, "k"), mustLoad(t, b, "k")
	first.Requests[0].Without[0], first.Known["https://v"][0] = "https://w", "2"
	if diff := cmp.Diff(want, mustLoad(t, b, "k")); diff != "" {
		t.Errorf("a reader changed what others read (-want +got):\n%s", diff)
	}
	if want.Requests[0].Without[0] != "https://v" {
		t.Error("a reader changed what another had read before")
	}
}
