package attest

import (
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Expect is the key that an attestation must be about. What is empty is not compared.
type Expect struct {
	Key         string
	Version     string
	Fingerprint key.Fingerprint // of the key
	// PartitionRoot pins the key of the root that claimed the partition, and so the pool.
	PartitionRoot key.Fingerprint
}

// Facts are what a verified attestation says.
type Facts struct {
	Key              string          `json:"key"`
	Version          string          `json:"version"`
	Fingerprint      key.Fingerprint `json:"fingerprint"`
	Extractable      bool            `json:"extractable"`
	Local            bool            `json:"local"`             // made in an HSM; false for an imported key
	NeverExtractable bool            `json:"never_extractable"` // false for an imported key
	Decrypt          bool            `json:"decrypt"`
	Unwrap           bool            `json:"unwrap"`
	Firmware         string          `json:"firmware"` // the style of the signature
	HSM              string          `json:"hsm"`      // as its certificate names it
	Root             string          `json:"root"`
	TestRoot         bool            `json:"test_root,omitempty"` // Root is not the vendor's: it proves nothing
	Partition        key.Fingerprint `json:"partition"`           // of the key that signed the statement
	PartitionRoot    key.Fingerprint `json:"partition_root"`
	Until            time.Time       `json:"until"` // the first certificate of both chains ends
}

// Verify verifies an attestation as of a time: both chains, the signature, that it is about the expected key, and that
// the private key cannot be taken out of the HSM. The error is the reason why not.
func Verify(raw []byte, roots []Root, want Expect, at time.Time) (Facts, error) {
	doc, err := Parse(raw)
	if err != nil {
		return Facts{}, err
	}
	return doc.verify(roots, want, at)
}

func (d Document) verify(roots []Root, want Expect, at time.Time) (Facts, error) {
	f, p, err := readStatement(d, roots)
	if err != nil {
		return Facts{}, err
	}
	root, claim, err := partitionRoot(p, d.Certificates)
	if err != nil {
		return Facts{}, err
	}
	f.PartitionRoot = fingerprint(root)
	if f.Until, err = during(at, p.root.Certificate, p.hsm, p.partition, root, claim); err != nil {
		return Facts{}, err
	}
	return f, f.meets(want)
}

// readStatement reads the statement once the vendor's chain is found to sign it.
func readStatement(doc Document, roots []Root) (Facts, path, error) {
	data, signature, err := split(doc.Statement)
	if err != nil {
		return Facts{}, path{}, err
	}
	p, err := vendorPath(doc.Certificates, roots, data, signature)
	if err != nil {
		return Facts{}, path{}, err
	}
	attributes, err := parseAttributes(data)
	if err != nil {
		return Facts{}, path{}, err
	}
	f, err := attributes.facts()
	f.Firmware, f.HSM, f.Root, f.TestRoot = p.style, p.hsm.Subject.CommonName, p.root.Name, p.root.Test
	f.Partition = fingerprint(p.partition)
	return f, p, err
}

// meets compares the facts with what is expected.
func (f Facts) meets(want Expect) error {
	switch {
	case want.Key != "" && !key.SameName(f.Key, want.Key):
		return fmt.Errorf("the attestation is about the key %s, not %s", f.Key, want.Key)
	case want.Version != "" && f.Version != want.Version:
		return fmt.Errorf("the attestation is about version %s of %s, not %s", f.Version, f.Key, want.Version)
	case want.Fingerprint != "" && f.Fingerprint != want.Fingerprint:
		return fmt.Errorf("the attestation is about the key with fingerprint %s, not %s", f.Fingerprint,
			want.Fingerprint)
	case want.PartitionRoot != "" && f.PartitionRoot != want.PartitionRoot:
		return fmt.Errorf("the attestation is of another Managed HSM: its partition root is %s, not the pinned %s",
			f.PartitionRoot, want.PartitionRoot)
	case f.Extractable:
		return fmt.Errorf("the attestation says that the private key of %s can be taken out of the HSM", f.Key)
	}
	return nil
}
