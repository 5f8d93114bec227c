package daemon

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/chain"
)

const (
	anyPin = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	notSet = "none"
)

// changesIn are the chain's entries about changed settings from number from on: "ABOUT by ACTOR" and the values.
func changesIn(t *testing.T, d *Daemon, from uint64) (map[string]map[string]string, uint64) {
	t.Helper()
	found := map[string]map[string]string{}
	err := d.store.Audit(t.Context(), from, func(e chain.Linked) error {
		if e.Event == chain.ConfigChanged {
			found[e.Key+" by "+e.Actor] = e.Fields
		}
		from = e.Seq + 1
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found, from
}

func started(t *testing.T, d *Daemon) {
	t.Helper()
	if err := d.recordStart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestAReloadRecordsByValueWhatChanged(t *testing.T) {
	d, path := newDaemon(t)
	started(t, d)
	_, next := changesIn(t, d, 1)
	edit(t, path, "keys:\n", "  neu: {url: https://neu-keyd-test.vault.azure.net, kek: {fingerprint: "+anyPin+"}}\n"+
		"keys:\n  two: {vaults: [neu], consumers: none, retire: {disable_after: 8760h}}\n")
	if err := d.Reload(t.Context(), "uid 0 (root), login anna"); err != nil {
		t.Fatal(err)
	}
	got, _ := changesIn(t, d, next)
	want := map[string]map[string]string{
		"https://neu-keyd-test.vault.azure.net by uid 0 (root), login anna": {
			"vaults.name": "neu", "vaults.name_before": notSet,
			"vaults.kek.name": "keyd-kek", "vaults.kek.name_before": notSet,
			"vaults.kek.fingerprints": anyPin, "vaults.kek.fingerprints_before": notSet,
		},
		"two by uid 0 (root), login anna": {
			"keys.vaults": "https://neu-keyd-test.vault.azure.net", "keys.vaults_before": notSet,
			"keys.consumers": "declared: none", "keys.consumers_before": notSet,
			"keys.retire": "disable_after 8760h0m0s, pause 24h0m0s", "keys.retire_before": notSet,
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAReloadThatChangesNothingOfWeightRecordsNoChange(t *testing.T) {
	d, path := newDaemon(t)
	started(t, d)
	_, next := changesIn(t, d, 1)
	edit(t, path, "keys:\n", "# a comment\nkeys:\n")
	if err := d.Reload(t.Context(), "uid 0 (root)"); err != nil {
		t.Fatal(err)
	}
	if got, _ := changesIn(t, d, next); len(got) > 0 {
		t.Errorf("it records %v", got)
	}
}

// A change of the operators takes a restart, and whoever wants a change to pass unseen restarts.
func TestAStartRecordsByValueWhatChangedSinceKeydLastActed(t *testing.T) {
	d, _ := newDaemon(t)
	started(t, d)
	all, next := changesIn(t, d, 1)
	if _, ok := all["one by keyd"]; !ok {
		t.Errorf("the first start records no key: %v", all)
	}
	started(t, d)
	again, next := changesIn(t, d, next)
	if len(again) > 0 {
		t.Errorf("a start with the same settings records %v", again)
	}
	changed := *d.cfg
	changed.Control.Operators = []uint32{1001, 1000}
	changed.Policies = nil
	d.cfg = &changed
	started(t, d)
	got, next := changesIn(t, d, next)
	want := map[string]map[string]string{
		" by keyd": {"control.operators": "1000, 1001", "control.operators_before": notSet},
		"one by keyd": {"keys.vaults": notSet, "keys.vaults_before": all["one by keyd"]["keys.vaults"],
			"keys.retire": notSet, "keys.retire_before": "never"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	started(t, d)
	if again, _ := changesIn(t, d, next); len(again) > 0 {
		t.Errorf("the start after it records them again: %v", again)
	}
}

func TestTheChainAddsUpToTheSettingsWhoseDigestItHas(t *testing.T) {
	d, path := newDaemon(t)
	started(t, d)
	edit(t, path, "keys:\n", "keys:\n  two: {vaults: [weu]}\n")
	if err := d.Reload(t.Context(), "uid 0 (root)"); err != nil {
		t.Fatal(err)
	}
	edit(t, path, "  two: {vaults: [weu]}\n", "")
	if err := d.Reload(t.Context(), "uid 0 (root)"); err != nil {
		t.Fatal(err)
	}
	was, err := recordedConfig(t.Context(), d.store)
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(was, func(_ string, values map[string]string) bool { return len(values) == 0 })
	if diff := cmp.Diff(d.config().Guarded(), was); diff != "" {
		t.Error(diff)
	}
	digest, err := lastConfig(t.Context(), d.store)
	if err != nil || digest != was.Digest() || !strings.HasPrefix(digest, "sha256:") {
		t.Errorf("digest %s, %v", digest, err)
	}
}
