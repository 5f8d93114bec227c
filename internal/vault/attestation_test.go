package vault_test

import (
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/attest"
	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/vault"
)

func attesting(cfg *vault.Config) { cfg.Attested = true }

// testRoots are the emulator's own: they prove nothing.
func (b *bench) testRoots(t *testing.T) []attest.Root {
	t.Helper()
	vendor, _, err := b.AttestationRoots()
	if err != nil {
		t.Fatal(err)
	}
	roots, err := attest.TestRoot(vendor)
	if err != nil {
		t.Fatal(err)
	}
	return roots
}

func TestAManagedHSMsKEKAndImportedVersionsComeWithAttestationsOfBothFirmwares(t *testing.T) {
	t.Parallel()
	for style, firmware := range map[string]emulator.Firmware{
		attest.Firmware2: emulator.Firmware2, attest.Firmware3: emulator.Firmware3,
	} {
		b := newBench(t, profiles()[1], emulator.Options{AttestationFirmware: firmware})
		c, _ := b.ready(t, attesting)
		kek, _, err := c.KEK(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		rule := attest.Rule{Required: true, Roots: b.testRoots(t), KEK: kekName, Alone: true}
		f, err := rule.OfKEK(kek, time.Now())
		if err != nil || f.Firmware != style || !f.Local {
			t.Errorf("the KEK: %+v, %v", f, err)
		}
		pair := material()
		v, err := c.Import(t.Context(), request(t, kek, pair))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := c.Attestation(t.Context(), keyName, v.ID)
		if err != nil {
			t.Fatal(err)
		}
		f, err = attest.Verify([]byte(raw), rule.Roots, attest.Expect{Key: keyName, Version: v.ID,
			Fingerprint: v.Material.Fingerprint()}, time.Now())
		if err != nil || f.Local || f.NeverExtractable || f.Extractable {
			t.Errorf("the imported version: %+v, %v", f, err)
		}
	}
}

func TestAnAttestationIsOneCallAndOnlyWhereTheConfigurationAsksForIt(t *testing.T) {
	t.Parallel()
	for _, asked := range []bool{true, false} {
		b := newBench(t, profiles()[1], emulator.Options{})
		c, _ := b.ready(t, func(cfg *vault.Config) { cfg.Attested = asked })
		kek, present, err := c.KEK(t.Context(), "")
		if err != nil || !present || (kek.Attestation != "") != asked {
			t.Errorf("asked %t: present %t, %d bytes, %v", asked, present, len(kek.Attestation), err)
		}
		calls := 0
		for _, r := range b.Requests() {
			if r.Operation == "attestation" {
				calls++
			}
		}
		if want := map[bool]int{true: 1, false: 0}[asked]; calls != want {
			t.Errorf("asked %t: %d calls", asked, calls)
		}
	}
}

func TestAKEKThatCannotBeAttestedIsNotAbsent(t *testing.T) {
	t.Parallel()
	b := newBench(t, profiles()[0], emulator.Options{}) // a Key Vault knows no attestation
	b.ready(t)
	_, present, err := b.client(t, attesting).KEK(t.Context(), "")
	if present {
		t.Error("it is present, without an attestation")
	}
	wantClass(t, err, key.Refused, "get attestation of key")
}
