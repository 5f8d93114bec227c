package rotate_test

import (
	"context"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/attest"
	"github.com/keyd-project/keyd/internal/chain"
)

func TestAnImportedVersionIsAttestedOnceWithItsProof(t *testing.T) {
	w := newWorld(t, 1, mhsm)
	p := policy(mhsm)
	r := w.rotator()
	var asked []attest.Expect
	r.Attest = func(_ context.Context, url string, want attest.Expect) (attest.Evidence, bool) {
		if url != mhsm.URL {
			t.Errorf("asked of %s", url)
		}
		asked = append(asked, want)
		return attest.Evidence{Result: attest.Verified, Says: "not extractable"}, true
	}
	w.steps(r, p, 30, time.Second)
	rec := w.record(p.Key)
	g := rec.Latest()
	at := g.Placements[0]
	if len(asked) != 1 || asked[0] != (attest.Expect{Key: p.Key, Version: at.Version, Fingerprint: g.Fingerprint}) {
		t.Errorf("asked for %+v, want one of version %s", asked, at.Version)
	}
	var found []string
	for _, e := range w.store.entries {
		if e.Event == chain.ProofPassed {
			found = append(found, e.Fields["attestation"]+": "+e.Fields["attestation_says"])
		}
	}
	if len(found) != 1 || found[0] != "verified: not extractable" {
		t.Errorf("the chain has %q", found)
	}
}

// The proof says whether a version works. What the hardware says of it, or that it says nothing, is recorded beside it.
func TestAVersionThatIsNotAttestedStillBecomesActive(t *testing.T) {
	w := newWorld(t, 1, mhsm)
	p := policy(mhsm)
	r := w.rotator()
	r.Attest = func(context.Context, string, attest.Expect) (attest.Evidence, bool) {
		return attest.Evidence{Result: attest.Unavailable, Why: "503"}, true
	}
	w.steps(r, p, 30, time.Second)
	rec := w.record(p.Key)
	if g := rec.Latest(); g == nil || g.Finished.IsZero() {
		t.Errorf("%+v", g)
	}
}
