package observe

import (
	"slices"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// Otherwise keyd would go on to remind a person of a version that is disabled already.
func TestVersionsAreListedAtEachLookWhileACompromisedOneIsEnabled(t *testing.T) {
	o, v, _ := newSwept(t)
	v.older = []key.Version{{ID: secondID, Enabled: true, Created: v.version.Created.Add(-time.Hour)}}
	p := key.Policy{Key: "sa-cmk-key", Vaults: []key.Vault{{Name: "weu", URL: sweptURL}}}
	in := func(seq int, version string, state key.PlacementState) []record.Placement {
		return []record.Placement{{Seq: seq, Vault: sweptURL, State: state, Version: version, ProvenAt: *v.now}}
	}
	rec := record.Record{Key: p.Key, Generations: []record.Generation{
		{Number: 1, Fingerprint: "sha256:01", Compromised: *v.now, Placements: in(1, secondID, key.Superseded)},
		{Number: 2, Fingerprint: "sha256:02", Finished: *v.now, Placements: in(2, firstID, key.Proven)},
	}}
	look := func() []string {
		v.calls = nil
		o.Observe(t.Context(), p, rec)
		*v.now = v.now.Add(slow)
		return v.calls
	}
	listed := func() bool { return slices.Contains(look(), "Versions") }
	look()
	if !listed() {
		t.Error("the versions are not listed although a compromised one is enabled")
	}
	v.older[0].Enabled = false
	if !listed() {
		t.Error("the versions are not listed after somebody disabled the compromised one")
	}
	if listed() {
		t.Error("the versions are listed again although none of them is to be disabled")
	}
}
