package attest

import (
	"crypto/sha256"
	"crypto/x509"
	_ "embed"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
)

// The roots of the vendor, Marvell (once Cavium), in the form in which Microsoft's own validator of attestations has
// them. Marvell publishes them at the addresses below.
var (
	//go:embed roots/ls1.pem
	ls1 []byte
	//go:embed roots/ls2.pem
	ls2 []byte
)

// embedded is a vendor's root, the SHA-256 of its certificate in DER, and where to compare it.
type embedded struct {
	name, sum, source string
	pem               []byte
}

// list returns the roots of the vendor that keyd trusts.
func list() []embedded {
	const site = "https://www.marvell.com/products/security-solutions/nitrox-hs-adapters/"
	return []embedded{
		{
			name: "Marvell LiquidSecurity", pem: ls1,
			sum:    "230143df00e0b452743e068a5b3fc08df8f06cefc4854ea627aeb7ebd70ee2f4",
			source: site + "liquidsecurity-certificate-cnxxxxx-nfbe-x0-g-v3.html",
		},
		{
			name: "Marvell LiquidSecurity 2", pem: ls2,
			sum:    "17644de0d33bc73b2f4ef4c20a11f6c8cc1f723a4cd83ee600361cbb24d8d2e5",
			source: site + "liquidsecurity2-certificate-ls2-g-axxx-mi-f-bo-v2.html (mrvl-rsa-LS2-MI.crt)",
		},
	}
}

// Root is a root that may certify HSMs.
type Root struct {
	Name        string
	Source      string // where it is published
	Certificate *x509.Certificate
	// Test: it is not the vendor's, so an attestation under it says nothing about hardware.
	Test bool
}

// MarshalText names the root and its certificate.
func (r Root) MarshalText() ([]byte, error) {
	return []byte(r.Name + " sha256:" + sumOf(r.Certificate)), nil
}

// Vendor returns the roots of the vendor, which are part of the program.
var Vendor = sync.OnceValue(func() (roots []Root) {
	for _, e := range list() {
		c, err := oneCertificate(e.pem)
		if err != nil || sumOf(c) != e.sum {
			panic(fmt.Sprintf("the root %s in the program is damaged: %v", e.name, err))
		}
		roots = append(roots, Root{Name: e.name, Source: e.source, Certificate: c})
	}
	return roots
})

// TestRoot reads a root for tests, in PEM. It takes the place of the vendor's roots.
func TestRoot(raw []byte) ([]Root, error) {
	c, err := oneCertificate(raw)
	if err != nil {
		return nil, err
	}
	return []Root{{Name: "test root " + c.Subject.CommonName, Source: "a file", Certificate: c, Test: true}}, nil
}

func oneCertificate(raw []byte) (*x509.Certificate, error) {
	block, rest := pem.Decode(raw)
	if block == nil {
		return nil, errors.New("it has no certificate in PEM")
	}
	if more, _ := pem.Decode(rest); more != nil {
		return nil, errors.New("it has more than one certificate")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("its certificate cannot be read: %w", err)
	}
	if err := c.CheckSignatureFrom(c); err != nil {
		return nil, fmt.Errorf("its certificate is not a root: %w", err)
	}
	return c, nil
}

func sumOf(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}
