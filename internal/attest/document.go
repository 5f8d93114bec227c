package attest

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/keyd-project/keyd/internal/key"
)

// maxCertificates bounds a document. A real one has 5.
const maxCertificates = 16

// Document is an attestation as a Managed HSM answers it.
type Document struct {
	// Statement is what the HSM says of the private key. What it says of the public key proves nothing, and is ignored.
	Statement    []byte
	Certificates []*x509.Certificate
}

// answered is an attestation in JSON: the service's answer, its attribute, or the file that az writes.
type answered struct {
	CertificatePEMFile    text `json:"certificatePemFile"`
	PrivateKeyAttestation text `json:"privateKeyAttestation"`
	Attributes            *struct {
		Attestation *answered `json:"attestation"`
	} `json:"attributes"`
}

// text is base64 in either alphabet, padded or not: the service writes the one, and az the other.
type text []byte

func (t *text) UnmarshalText(raw []byte) (err error) {
	plain := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(string(raw), "="))
	*t, err = base64.RawStdEncoding.DecodeString(plain)
	return err
}

// Encode returns the document of a statement and its certificates in PEM, as Parse reads it.
func Encode(statement, certificates []byte) []byte {
	encoded, err := json.Marshal(map[string]string{
		"certificatePemFile":    base64.RawURLEncoding.EncodeToString(certificates),
		"privateKeyAttestation": base64.RawURLEncoding.EncodeToString(statement),
	})
	if err != nil {
		return nil // cannot happen: strings always encode
	}
	return encoded
}

// Parse reads a document. It judges nothing.
func Parse(raw []byte) (Document, error) {
	if len(raw) == 0 {
		return Document{}, errors.New("there is no attestation")
	}
	if len(raw) > key.MaxAttestation {
		return Document{}, fmt.Errorf("the attestation has %d bytes, more than %d", len(raw), key.MaxAttestation)
	}
	var a answered
	if err := json.Unmarshal(raw, &a); err != nil {
		return Document{}, fmt.Errorf("the attestation is not what a Managed HSM answers: %w", err)
	}
	if a.Attributes != nil && a.Attributes.Attestation != nil {
		a = *a.Attributes.Attestation
	}
	if len(a.PrivateKeyAttestation) == 0 || len(a.CertificatePEMFile) == 0 {
		return Document{}, errors.New("the attestation lacks privateKeyAttestation or certificatePemFile")
	}
	certificates, err := parseCertificates(a.CertificatePEMFile)
	return Document{Statement: a.PrivateKeyAttestation, Certificates: certificates}, err
}

func parseCertificates(raw []byte) (all []*x509.Certificate, err error) {
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if len(all) == maxCertificates {
			return nil, fmt.Errorf("the attestation has more than %d certificates", maxCertificates)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the attestation cannot be read: %w", len(all)+1, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errors.New("the attestation has no certificate")
	}
	return all, nil
}
