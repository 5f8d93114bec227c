package hsm

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/attest"
	"github.com/keyd-project/keyd/internal/key"
)

const madeAttestations = "../attest/testdata/made"

func attestedKEK(t *testing.T, file string) (kek key.KEK) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(madeAttestations, file))
	if err == nil {
		err = json.Unmarshal(b, &kek)
	}
	if err != nil {
		t.Fatal(err)
	}
	return kek
}

// world of attestations: trust at a time when those in testdata are valid, and what the configuration permits.
type attesting struct {
	*trust
	by *Rights
}

func (a attesting) accepts(kek key.KEK) (string, error) { return a.accept(kek, a.by) }

func newAttesting(t *testing.T, pins []key.Fingerprint, change func(*attest.Rule)) attesting {
	t.Helper()
	pem, err := os.ReadFile(filepath.Join(madeAttestations, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	rule := attest.Rule{Required: true, KEK: "keyd-kek", Alone: len(pins) == 0}
	if rule.Roots, err = attest.TestRoot(pem); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&rule)
	}
	url := attestedKEK(t, "kek.json").Vault
	a := attesting{newTrust(t.TempDir()), permit(map[string]VaultRights{url: {
		Name: "contoso-hsm", Pins: pins, FirstUse: len(pins) == 0, Attest: rule}}, nil)}
	a.now = func() time.Time { return time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC) }
	return a
}

// of is the pin of a KEK.
func of(kek key.KEK) []key.Fingerprint { return []key.Fingerprint{kek.Material.Fingerprint()} }

// ofPool pins the partition root of a KEK's pool.
func ofPool(t *testing.T, kek key.KEK) func(*attest.Rule) {
	t.Helper()
	return func(r *attest.Rule) {
		f, err := attest.Verify(
			[]byte(kek.Attestation),
			r.Roots,
			attest.Expect{},
			time.Date(2026, 11, 30, 12, 0, 0, 0,
				time.UTC),
		)
		if err != nil {
			t.Fatal(err)
		}
		r.PartitionRoot = f.PartitionRoot
	}
}

func TestAnAttestationAddsToTheFingerprintAndNeverReplacesIt(t *testing.T) {
	kek := attestedKEK(t, "kek.json")
	another := anotherKEK(t, vaultURL)
	if how, err := newAttesting(t, of(kek), nil).accepts(kek); how != Configured || err != nil {
		t.Errorf("pinned and attested: %q, %v", how, err)
	}
	_, err := newAttesting(t, of(another), nil).accepts(kek)
	wantCode(t, err, KEKRefused, key.Refused)
	if how, err := newAttesting(t, nil, nil).accepts(kek); how != FirstUse || err != nil {
		t.Errorf("attested only: %q, %v", how, err)
	}
}

func TestAManagedHSMsKEKWithoutAnAttestationIsRefusedAlsoWhenItIsPinned(t *testing.T) {
	kek := attestedKEK(t, "kek.json")
	kek.Attestation = ""
	_, err := newAttesting(t, of(kek), nil).accepts(kek)
	wantCode(t, err, KEKRefused, key.Refused)
	if !strings.Contains(err.Error(), "there is no attestation") || !strings.Contains(err.Error(), kek.Kid) {
		t.Error(err)
	}
}

func TestAPinnedPartitionRootMakesItsOwnPoolsKEKTrusted(t *testing.T) {
	kek, other := attestedKEK(t, "kek.json"), attestedKEK(t, "other-kek.json")
	tr := newAttesting(t, nil, ofPool(t, kek))
	if how, err := tr.accepts(kek); how != ByPartitionRoot || err != nil {
		t.Errorf("%q, %v", how, err)
	}
	_, err := tr.accepts(other)
	wantCode(t, err, KEKRefused, key.Refused)
	if !strings.Contains(err.Error(), "of another Managed HSM") {
		t.Error(err)
	}
}

func TestAPinnedPartitionRootDoesNotOverruleAFingerprint(t *testing.T) {
	kek := attestedKEK(t, "kek.json")
	another := anotherKEK(t, vaultURL)
	_, err := newAttesting(t, of(another), ofPool(t, kek)).accepts(kek)
	wantCode(t, err, KEKRefused, key.Refused)
}

func TestAnExpiredAttestationIsRefused(t *testing.T) {
	kek := attestedKEK(t, "kek.json")
	tr := newAttesting(t, of(kek), nil)
	tr.now = func() time.Time { return time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC) }
	_, err := tr.accepts(kek)
	wantCode(t, err, KEKRefused, key.Refused)
	if !strings.Contains(err.Error(), "expired") {
		t.Error(err)
	}
}

func TestWhereAttestationIsOffTheFingerprintDecides(t *testing.T) {
	kek := attestedKEK(t, "kek.json")
	kek.Attestation = ""
	off := func(r *attest.Rule) { r.Required = false }
	if how, err := newAttesting(t, of(kek), off).accepts(kek); how != Configured || err != nil {
		t.Errorf("%q, %v", how, err)
	}
}
