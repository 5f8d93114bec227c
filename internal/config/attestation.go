package config

import (
	"github.com/keyd-project/keyd/internal/attest"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/ownership"
)

// Values of kek.attestation.
const (
	attestationRequired = "required"
	attestationOff      = "off"
)

// readAttestation reads what a vault's KEK says of attestations. Only a Managed HSM has them.
func readAttestation(s *section, v *Vault) {
	if v.Kind == key.KeyVault {
		for _, name := range []string{"partition_root", "attestation"} {
			if s.has(name) {
				s.rep.add(s.whereOf(name), "remove it: kek.fingerprint is what pins the key there",
					"%s: a Key Vault has no attestation", s.name(name))
			}
		}
		return
	}
	v.KEK.PartitionRoot = read(s, "partition_root", "", parseFingerprint)
	word := read(s, "attestation", attestationRequired, oneOf(attestationRequired, attestationOff))
	v.KEK.Attested = v.Kind == key.ManagedHSM && word == attestationRequired
	switch {
	case word == attestationOff && v.KEK.PartitionRoot != "":
		s.rep.add(s.whereOf("attestation"), "keep one of them", "%s and partition_root contradict each other",
			s.name("attestation"))
	case word == attestationOff && len(v.KEK.Fingerprints) == 0:
		s.rep.add(s.whereOf("attestation"), "pin the key by kek.fingerprint, or remove it",
			"%s: without it, only a fingerprint says which key exchange key is the right one", s.name("attestation"))
	}
}

// parseTestRoot reads the root certificate in a file.
func parseTestRoot(text string) ([]attest.Root, error) {
	path, err := parsePath(text)
	if err != nil {
		return nil, err
	}
	const remedy = "remove it: it is for tests only"
	raw, err := ownership.ReadFile(path)
	if err != nil {
		return nil, faultf(remedy, "it cannot be read: %v", err)
	}
	roots, err := attest.TestRoot(raw)
	if err != nil {
		return nil, faultf(remedy, "%s: %v", path, err)
	}
	return roots, nil
}

// AttestationRoots are the roots under which attestations count: the vendor's, or one for tests.
func (c *Config) AttestationRoots() []attest.Root {
	if c.HSM.TestRoots != nil {
		return c.HSM.TestRoots
	}
	return attest.Vendor()
}

// Attestation is what the configuration asks of the attestations of a vault.
func (c *Config) Attestation(url string) attest.Rule {
	v, _ := c.Vault(url)
	if !v.KEK.Attested {
		return attest.Rule{}
	}
	return attest.Rule{Required: true, Roots: c.AttestationRoots(), KEK: v.KEK.Name,
		PartitionRoot: v.KEK.PartitionRoot, Alone: len(v.KEK.Fingerprints) == 0}
}
