package audit

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/attest"
	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
)

const made = "../attest/testdata/made/"

var judged = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// madeRoots are the roots of the attestations that are made for tests.
func madeRoots(t *testing.T) []attest.Root {
	t.Helper()
	pem, err := os.ReadFile(made + "root.pem")
	if err != nil {
		t.Fatal(err)
	}
	roots, err := attest.TestRoot(pem)
	if err != nil {
		t.Fatal(err)
	}
	return roots
}

// attestedReceipt is the receipt of a rotation whose one version was attested, verified under roots.
func attestedReceipt(
	t *testing.T,
	roots []attest.Root,
	change func(fields map[string]string, e *chain.Entry),
) Attested {
	t.Helper()
	var kek key.KEK
	text, err := os.ReadFile(made + "kek.json")
	if err == nil {
		err = json.Unmarshal(text, &kek)
	}
	if err != nil {
		t.Fatal(err)
	}
	print := kek.Material.Fingerprint()
	evidence := attest.Judge(kek.Attestation, nil, madeRoots(t), attest.Expect{Fingerprint: print}, judged)
	r := NewReceipts("keyd-kek")
	r.Roots = roots
	seq := uint64(0)
	add := func(event chain.Event, fields map[string]string) {
		seq++
		e := chain.Entry{Time: judged, Key: "keyd-kek", Event: event, Fields: fields}
		if fields["generation"] = "1"; change != nil {
			change(fields, &e)
		}
		r.Add(seq, e)
	}
	add(chain.GenerationReserved, map[string]string{})
	add(chain.GenerationPinned, map[string]string{"fingerprint": string(print)})
	add(chain.ImportIntended, map[string]string{"attempt": attempt})
	proof := evidence.Fields()
	proof["attempt"], proof["version"] = attempt, kek.Version()
	add(chain.ProofPassed, proof)
	got, err := r.Of(1)
	if err != nil || len(got.Imports) != 1 || got.Imports[0].Attested == nil {
		t.Fatalf("%+v, %v", got, err)
	}
	return *got.Imports[0].Attested
}

func TestAReceiptVerifiesTheAttestationAgainAsOfItsTime(t *testing.T) {
	a := attestedReceipt(t, madeRoots(t), nil)
	if a.Result != attest.Verified || a.Contradicts != "" || a.Facts == nil || a.Facts.Extractable ||
		!a.At.Equal(judged) {
		t.Errorf("%+v", a)
	}
}

func TestAReceiptSaysThatARecordedAttestationDoesNotVerifyAgain(t *testing.T) {
	for what, c := range map[string]struct {
		roots  []attest.Root
		change func(fields map[string]string, e *chain.Entry)
		reason string
	}{
		"a test's root": {attest.Vendor(), nil, "a root that keyd trusts"},
		"another time": {madeRoots(t), func(_ map[string]string, e *chain.Entry) {
			e.Time = judged.AddDate(50, 0, 0)
		}, "expired"},
		"another version": {madeRoots(t), func(f map[string]string, _ *chain.Entry) {
			if f["version"] != "" {
				f["version"] = strings.Repeat("0", 32)
			}
		}, "is about version"},
		"another generation": {madeRoots(t), func(f map[string]string, _ *chain.Entry) {
			if f["fingerprint"] != "" {
				f["fingerprint"] = "sha256:00"
			}
		}, "with fingerprint"},
		"no evidence": {madeRoots(t), func(f map[string]string, _ *chain.Entry) {
			delete(f, "attestation_evidence")
		}, "holds no attestation"},
	} {
		a := attestedReceipt(t, c.roots, c.change)
		if a.Facts != nil || !strings.Contains(a.Contradicts, c.reason) {
			t.Errorf("%s: %+v, want %q", what, a, c.reason)
		}
	}
}
