package storetest

import (
	"encoding/json"
	"testing"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/record"
)

func settings(t *testing.T, b Opened) {
	rec, err := b.LoadSettings(t.Context())
	if err != nil || rec.Revision != 0 || rec.InForce != nil {
		t.Fatalf("absent settings: %+v, %v", rec, err)
	}
	rec.InForce = json.RawMessage(`{"a":1}`)
	other := entry("changed")
	other.Key = "one"
	save := func(rec record.Settings) error {
		return b.SaveSettings(t.Context(), rec, []chain.Entry{entry("kept")}, []chain.Entry{entry("reloaded"), other})
	}
	if err := save(rec); err != nil {
		t.Fatal(err)
	}
	wantRetry(t, save(rec)) // a stale revision
	if err := b.SaveSettings(t.Context(), rec, nil, []chain.Entry{other}); err == nil {
		t.Error("the settings were saved without an entry of their own")
	}
	wantEvents(t, b, "kept", "reloaded", "changed")
	var about []string
	for _, e := range linked(t, b) {
		about = append(about, e.Key)
	}
	if about[0] != record.SettingsName || about[1] != "" || about[2] != "one" {
		t.Errorf("the entries are about %q", about)
	}
	reopened := b.Reopen(t)
	got, err := reopened.LoadSettings(t.Context())
	if err != nil || string(got.InForce) != `{"a":1}` || got.Revision != 1 {
		t.Errorf("loaded %+v, %v", got, err)
	}
	names, err := reopened.Names(t.Context())
	revisions, rerr := reopened.Revisions(t.Context())
	if err != nil || rerr != nil || len(names) > 0 || len(revisions) > 0 {
		t.Errorf("the settings are listed as a key: %v, %v (%v, %v)", names, revisions, err, rerr)
	}
	if r, err := reopened.Verify(t.Context()); err != nil || !r.Consistent() {
		t.Errorf("the chain after a change of the settings: %v, %v", r, err)
	}
}
