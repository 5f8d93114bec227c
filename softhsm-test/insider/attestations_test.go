package insider_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/keyd-project/keyd/internal/attest"
	"github.com/keyd-project/keyd/internal/key"
)

// Two KEKs of one name in two pools, made for tests, and the root of both.
const (
	attested     = "../../internal/attest/testdata/made"
	attestedHost = "contoso.managedhsm.azure.net"
)

// attestations are attacks on the trust in a Managed HSM's KEK.
func attestations() []attack {
	return []attack{
		{"a KEK of another Managed HSM, with a genuine attestation for the same name", func(w *world) string {
			return w.unattested(w.pool(), w.attestedKEK("other-kek.json"), "of another Managed HSM")
		}},
		{"the attacker's own KEK with the attestation of a genuine one", func(w *world) string {
			kek := w.attestedKEK("kek.json")
			kek.Material = w.kek.Material
			return w.unattested(w.pool(), kek, "with fingerprint")
		}},
		{"the attacker's own KEK without an attestation, as that of a Managed HSM", func(w *world) string {
			kek := w.attestedKEK("kek.json")
			kek.Material, kek.Attestation = w.kek.Material, ""
			return w.unattested(w.pool(), kek, "there is no attestation")
		}},
		{"a genuine attestation of another version", func(w *world) string {
			kek := w.attestedKEK("kek.json")
			kek.Kid = urlOf(attestedHost) + "/keys/keyd-kek/00112233445566778899aabbccddeeff"
			return w.unattested(w.pool(), kek, "is about version")
		}},
		{"a genuine attestation of a key that is not the vault's KEK", func(w *world) string {
			return w.unattested(w.pool()+", name: another", w.attestedKEK("kek.json"), "kek.name")
		}},
		{"a KEK that is attested, where nothing says which Managed HSM is the right one", func(w *world) string {
			return w.unattested("", w.attestedKEK("kek.json"), "approves none")
		}},
		{"an attestation under a root that is not the vendor's", func(w *world) string {
			with := strings.Replace(w.withHSM(w.pool()), "test_attestation_root: "+w.root()+", ", "", 1)
			return w.refusedUnder(with, w.attestedKEK("kek.json"), "a root that keyd trusts")
		}},
	}
}

// attestedKEK is a KEK with its attestation.
func (w *world) attestedKEK(file string) (kek key.KEK) {
	w.Helper()
	text, err := os.ReadFile(filepath.Join(attested, file))
	if err == nil {
		err = json.Unmarshal(text, &kek)
	}
	if err != nil {
		w.Fatal(err)
	}
	return kek
}

func (w *world) root() string {
	w.Helper()
	path, err := filepath.Abs(filepath.Join(attested, "root.pem"))
	if err != nil {
		w.Fatal(err)
	}
	return path
}

// pool pins the Managed HSM of the first KEK.
func (w *world) pool() string {
	w.Helper()
	pem, err := os.ReadFile(w.root())
	if err != nil {
		w.Fatal(err)
	}
	roots, err := attest.TestRoot(pem)
	if err != nil {
		w.Fatal(err)
	}
	f, err := attest.Verify([]byte(w.attestedKEK("kek.json").Attestation), roots, attest.Expect{},
		roots[0].Certificate.NotBefore)
	if err != nil {
		w.Fatal(err)
	}
	return fmt.Sprintf("partition_root: %q", f.PartitionRoot)
}

// withHSM is the configuration with a Managed HSM to which key one goes as well, and more fields of its KEK.
func (w *world) withHSM(kek string) string {
	return strings.NewReplacer(
		"hsm: {", "hsm: {test_attestation_root: "+w.root()+", ",
		"vaults:\n", fmt.Sprintf("vaults:\n  mhsm: {url: %q, kek: {%s}}\n", urlOf(attestedHost), kek),
		"vaults: [weu]", "vaults: [weu, mhsm]",
	).Replace(w.standard())
}

// unattested tries a wrap for a KEK of the Managed HSM, and requires the reason of the refusal.
func (w *world) unattested(fields string, kek key.KEK, reason string) string {
	return w.refusedUnder(w.withHSM(fields), kek, reason)
}

func (w *world) refusedUnder(config string, kek key.KEK, reason string) string {
	return w.under(config, func() string {
		if got := w.wrapped(w.one, kek); got != "" {
			return got
		}
		if _, err := w.hsm.WrapFor(w.Context(), w.one, kek); err == nil || !strings.Contains(err.Error(), reason) {
			return fmt.Sprintf("a refusal for another reason than %q: %v", reason, err)
		}
		return ""
	})
}
