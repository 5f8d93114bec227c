package rotate_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

const planted = key.ID("fefefefefefefefefefefefefefefefe")

// plant has the HSM make a pair past keyd, as somebody can who holds the network side. It carries the key's label and
// the next number.
func plant(w *world, p key.Policy) *material {
	private := w.newPair()
	w.hsm.pairs[planted] = []*pair{{label: key.Label{Instance: instance, Key: p.Key, Number: 2}, private: private,
		wrapped: true}}
	w.hsm.late = map[key.ID]bool{planted: true}
	w.now = w.now.Add(time.Hour)
	w.settle(p)
	return private
}

func adopted(w *world, p key.Policy, unreserved bool) status.Adoption {
	w.tb.Helper()
	shown, err := w.rotator().Adoption(w.tb.Context(), p, unreserved)
	if err != nil {
		w.tb.Fatal(err)
	}
	if err := w.rotator().Adopt(w.tb.Context(), p, "uid 0 (root)", "looked into it", shown.Token); err != nil {
		w.tb.Fatal(err)
	}
	return shown
}

func TestInsiderAPairThatNobodyReservedHoldsTheKeyAndIsNeverImported(t *testing.T) {
	w := newWorld(t, 1, weu, mhsm)
	p := policy(weu, mhsm)
	w.settle(p)
	evil := materialOf(plant(w, p)).Fingerprint()
	if hold := w.record(p.Key).Hold; hold == nil || hold.Code != key.HoldUnreserved {
		t.Fatalf("hold %+v, want %s", hold, key.HoldUnreserved)
	}
	shown := adopted(w, p, false)
	if len(shown.Rebuild) != 0 || len(shown.Pairs) != 1 || shown.Pairs[0].ID != planted ||
		shown.Pairs[0].As != status.LeftAlone || !shown.Pairs[0].Unreserved {
		t.Errorf("the consent is to %+v", shown)
	}
	w.settle(p)
	w.now = w.now.Add(25 * time.Hour)
	w.settle(p)
	rec := w.record(p.Key)
	if rec.Hold != nil || rec.WithID(planted) != nil || rec.WithFingerprint(evil) != nil || !rec.LeftAlone(planted) {
		t.Errorf("the record has %+v", rec)
	}
	if last := rec.NewestIn(weu.URL); !last.Found() || last.Generation.Number != 2 ||
		last.Generation.Fingerprint == evil {
		t.Errorf("the rotation after it placed %+v", last)
	}
	if len(w.hsm.pairs[planted]) != 1 {
		t.Error("the evidence is gone from the HSM")
	}
}

// The state was put back from a backup: the pair is keyd's own, and a person says so a second time.
func TestAPairThatNobodyReservedIsUsedAfterASecondConsent(t *testing.T) {
	w := newWorld(t, 1, weu, mhsm)
	p := policy(weu, mhsm)
	w.settle(p)
	own := materialOf(plant(w, p)).Fingerprint()
	first, err := w.rotator().Adoption(t.Context(), p, false)
	if err != nil {
		t.Fatal(err)
	}
	// The first consent is none to the second, whatever is added to it.
	err = w.rotator().Adopt(t.Context(), p, "uid 0 (root)", "restored", first.Token+"-unreserved")
	if err == nil || !strings.Contains(err.Error(), "has changed since the last look") {
		t.Errorf("%v", err)
	}
	adopted(w, p, false) // first left alone, and then taken in after all
	shown := adopted(w, p, true)
	if len(shown.Rebuild) != 1 || shown.Pairs[0].As != "generation 2" {
		t.Errorf("the consent is to %+v", shown)
	}
	rec := w.record(p.Key)
	if g := rec.WithID(planted); g == nil || g.Fingerprint != own || rec.LeftAlone(planted) || rec.Hold == nil {
		t.Errorf("the record has %+v", rec)
	}
}
