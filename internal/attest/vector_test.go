package attest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func load(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The one real attestation that is public has only the vendor's chain.
func TestARealAttestationVerifiesUnderTheVendorsRoot(t *testing.T) {
	certificates := append(load(t, "partition-cert.pem"), load(t, "hsm-cert.pem")...)
	raw := Encode(load(t, "private-key-attestation.bin"), certificates)
	doc, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	f, p, err := readStatement(doc, Vendor())
	if err != nil {
		t.Fatal(err)
	}
	if f.Key != "key1-hnhgsllilfcl3pdtpld" || f.Version != "7071fabc480c0ca186f786a9b78c9456" || f.Extractable ||
		!f.Local || !f.NeverExtractable || f.Firmware != Firmware2 || f.Root != "Marvell LiquidSecurity" ||
		f.TestRoot ||
		f.HSM != "HSM:5.3G2142-ICM003565, for non-FIPS mode" || f.meets(Expect{}) != nil {
		t.Errorf("%+v", f)
	}
	at := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	until, err := during(at, p.root.Certificate, p.hsm, p.partition)
	if err != nil || until.Year() != 2031 {
		t.Errorf("%v, %v", until, err)
	}
	if _, err := Verify(raw, Vendor(), Expect{}, at); err == nil ||
		!strings.Contains(err.Error(), "no partition root") {
		t.Errorf("without the other chain: %v", err)
	}
}

func TestAChangedBitOfARealAttestationIsFound(t *testing.T) {
	certificates := append(load(t, "partition-cert.pem"), load(t, "hsm-cert.pem")...)
	genuine := load(t, "private-key-attestation.bin")
	for i := 0; i < len(genuine); i += 37 {
		statement := append([]byte(nil), genuine...)
		statement[i] ^= 1
		doc, err := Parse(Encode(statement, certificates))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := readStatement(doc, Vendor()); err == nil {
			t.Errorf("byte %d", i)
		}
	}
}

func FuzzStatement(f *testing.F) {
	raw, err := os.ReadFile(filepath.Join("testdata", "private-key-attestation.bin"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, statement []byte) {
		data, _, err := split(statement)
		if err != nil {
			return
		}
		all, err := parseAttributes(data)
		if err != nil {
			return
		}
		if facts, err := all.facts(); err == nil && (facts.Key == "" || facts.Fingerprint == "") {
			t.Errorf("facts without a key: %+v", facts)
		}
	})
}
