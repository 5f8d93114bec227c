package emulator

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"
)

// attester is the emulator's HSM: a partition key with two certificate chains, one from
// the vendor through the HSM, one from the service.
type attester struct {
	partition *rsa.PrivateKey

	vendorRoot, hsm, vendorPartition []byte // DER
	serviceRoot, servicePartition    []byte
}

// newAttester builds the chains like the real ones: the HSM's certificate is X.509 v1,
// which does not say what its key may sign.
func newAttester() (*attester, error) {
	keys := make([]*rsa.PrivateKey, 4)
	for i := range keys {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, fmt.Errorf("generating a key for attestation: %w", err)
		}
		keys[i] = key
	}
	vendor, board, service := keys[0], keys[1], keys[2]
	h := &attester{partition: keys[3]}
	boardName := pkix.Name{
		Country: []string{"US"}, Province: []string{"CA"}, Organization: []string{"Emulator"},
		OrganizationalUnit: []string{"N3FIPS"},
		CommonName:         "HSM:EMULATOR, for non-FIPS mode",
	}
	partitionName := boardName
	partitionName.CommonName = "HSM:EMULATOR:PARTN:1, for non-FIPS mode"
	var err error
	var vendorCert, boardCert, serviceCert *x509.Certificate
	if h.vendorRoot, vendorCert, err = newRoot("localca.liquidsecurity.emulator", vendor); err != nil {
		return nil, err
	}
	if h.hsm, boardCert, err = certifyV1(boardName, &board.PublicKey, vendorCert, vendor); err != nil {
		return nil, err
	}
	if h.vendorPartition, err = certify(partitionName, &h.partition.PublicKey, boardCert, board); err != nil {
		return nil, err
	}
	if h.serviceRoot, serviceCert, err = newRoot("Managed HSM service root of the emulator", service); err != nil {
		return nil, err
	}
	h.servicePartition, err = certify(partitionName, &h.partition.PublicKey, serviceCert, service)
	return h, err
}

// pem returns all certificates, the vendor's chain first, each from the partition up.
func (h *attester) pem() []byte {
	var b bytes.Buffer
	for _, der := range [][]byte{h.vendorPartition, h.hsm, h.vendorRoot, h.servicePartition, h.serviceRoot} {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return b.Bytes()
}

// chainTemplate is for a certificate that is valid for ten years, as those of real HSMs are: a test may move the clock.
func chainTemplate(name string) (*x509.Certificate, error) {
	template, err := certificateTemplate(name)
	if err == nil {
		template.NotBefore = template.NotBefore.AddDate(-1, 0, 0)
		template.NotAfter = template.NotAfter.AddDate(9, 0, 0)
	}
	return template, err
}

func newRoot(name string, key *rsa.PrivateKey) ([]byte, *x509.Certificate, error) {
	template, err := chainTemplate(name)
	if err != nil {
		return nil, nil, err
	}
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, nil, fmt.Errorf("certifying %s: %w", name, err)
	}
	cert, err := x509.ParseCertificate(der)
	return der, cert, err
}

func certify(name pkix.Name, public *rsa.PublicKey, issuer *x509.Certificate, key *rsa.PrivateKey) ([]byte, error) {
	template, err := chainTemplate(name.CommonName)
	if err != nil {
		return nil, err
	}
	template.Subject = name
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, public, key)
	if err != nil {
		return nil, fmt.Errorf("certifying %s: %w", name.CommonName, err)
	}
	return der, nil
}

// certificateV1 is RFC 5280's Certificate without version and extensions, which
// crypto/x509 does not write.
type certificateV1 struct {
	TBS       asn1.RawValue
	Algorithm pkix.AlgorithmIdentifier
	Signature asn1.BitString
}

type tbsCertificateV1 struct {
	Serial    *big.Int
	Algorithm pkix.AlgorithmIdentifier
	Issuer    asn1.RawValue
	Validity  struct{ NotBefore, NotAfter time.Time }
	Subject   asn1.RawValue
	PublicKey asn1.RawValue
}

func certifyV1(name pkix.Name, public *rsa.PublicKey, issuer *x509.Certificate,
	key *rsa.PrivateKey) ([]byte, *x509.Certificate, error) {
	subject, err := asn1.Marshal(name.ToRDNSequence())
	if err != nil {
		return nil, nil, fmt.Errorf("encoding the name %s: %w", name.CommonName, err)
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, nil, fmt.Errorf("encoding the key of %s: %w", name.CommonName, err)
	}
	algorithm := pkix.AlgorithmIdentifier{
		Algorithm:  asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, // sha256WithRSAEncryption
		Parameters: asn1.NullRawValue,
	}
	tbs := tbsCertificateV1{
		Serial: big.NewInt(1), Algorithm: algorithm,
		Issuer:    asn1.RawValue{FullBytes: issuer.RawSubject},
		Subject:   asn1.RawValue{FullBytes: subject},
		PublicKey: asn1.RawValue{FullBytes: spki},
	}
	tbs.Validity.NotBefore, tbs.Validity.NotAfter = issuer.NotBefore, issuer.NotAfter
	raw, err := asn1.Marshal(tbs)
	if err != nil {
		return nil, nil, fmt.Errorf("encoding the certificate of %s: %w", name.CommonName, err)
	}
	sum := sha256.Sum256(raw)
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		return nil, nil, fmt.Errorf("certifying %s: %w", name.CommonName, err)
	}
	der, err := asn1.Marshal(certificateV1{
		TBS: asn1.RawValue{FullBytes: raw}, Algorithm: algorithm,
		Signature: asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("encoding the certificate of %s: %w", name.CommonName, err)
	}
	cert, err := x509.ParseCertificate(der)
	return der, cert, err
}

// curveParams is the DER of a curve's object identifier (RFC 5480).
func curveParams(crv string) ([]byte, error) {
	oid := map[string]asn1.ObjectIdentifier{
		"P-256": {1, 2, 840, 10045, 3, 1, 7}, "P-384": {1, 3, 132, 0, 34}, "P-521": {1, 3, 132, 0, 35},
		curveK1: {1, 3, 132, 0, 10},
	}[crv]
	der, err := asn1.Marshal(oid)
	if err != nil {
		return nil, fmt.Errorf("encoding the curve %q: %w", crv, err)
	}
	return der, nil
}

func octetString(b []byte) ([]byte, error) {
	der, err := asn1.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encoding a point: %w", err)
	}
	return der, nil
}
