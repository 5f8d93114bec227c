package attest

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// path is a chain of certificates from a root down to the partition.
type path struct {
	root           Root
	hsm, partition *x509.Certificate
	style          string
}

// vendorPath returns the chain from a vendor's root over the HSM to the partition that signed the statement.
func vendorPath(all []*x509.Certificate, roots []Root, data, signature []byte) (path, error) {
	err := errors.New("no certificate in the attestation is signed by a root that keyd trusts: " +
		"the chain is cut off, or of another vendor")
	for _, root := range roots {
		for _, hsm := range issued(root.Certificate, all) {
			err = errors.New("no certificate in the attestation is signed by the HSM's: the chain is cut off")
			if p, found := partitionOf(hsm, all, data, signature); found != nil {
				err = found
			} else if p.partition != nil {
				p.root = root
				return p, nil
			}
		}
	}
	return path{}, err
}

// partitionOf looks for the partition below an HSM that signed the statement. An error says that there are
// partitions, and none did.
func partitionOf(hsm *x509.Certificate, all []*x509.Certificate, data, signature []byte) (path, error) {
	var err error
	for _, c := range issued(hsm, all) {
		style, ok := signedBy(c, data, signature)
		if ok {
			return path{hsm: hsm, partition: c, style: style}, nil
		}
		err = fmt.Errorf("the statement is not signed by the partition of the certificates (%s): "+
			"it was changed, or the chain is of another HSM", c.Subject.CommonName)
	}
	return path{}, err
}

// issued lists the certificates that issuer signed, except itself. The HSM's certificate is X.509 v1, so
// x509.Certificate.Verify cannot be used.
func issued(issuer *x509.Certificate, all []*x509.Certificate) (out []*x509.Certificate) {
	for _, c := range all {
		if !bytes.Equal(c.RawSubjectPublicKeyInfo, issuer.RawSubjectPublicKeyInfo) &&
			bytes.Equal(c.RawIssuer, issuer.RawSubject) && c.CheckSignatureFrom(issuer) == nil {
			out = append(out, c)
		}
	}
	return out
}

// Signature styles, by the firmware of the HSM.
const (
	Firmware2 = "2.x" // PKCS#1 v1.5 over the bare SHA-256, without DigestInfo
	Firmware3 = "3.x" // PKCS#1 v1.5 (RFC 8017 section 8.2)
)

func signedBy(c *x509.Certificate, data, signature []byte) (style string, ok bool) {
	public, isRSA := c.PublicKey.(*rsa.PublicKey)
	if !isRSA || public.Size() != signatureSize {
		return "", false
	}
	sum := sha256.Sum256(data)
	switch {
	case rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], signature) == nil:
		return Firmware3, true
	case rsa.VerifyPKCS1v15(public, 0, sum[:], signature) == nil:
		return Firmware2, true
	}
	return "", false
}

// partitionRoot returns the self-signed root that claimed the partition, and the certificate by which it did.
func partitionRoot(p path, all []*x509.Certificate) (root, claim *x509.Certificate, err error) {
	err = errors.New("the attestation has no partition root: the second chain is cut off")
	for _, r := range all {
		if !bytes.Equal(r.RawSubject, r.RawIssuer) || r.CheckSignatureFrom(r) != nil || p.vendors(r) {
			continue
		}
		err = errors.New("the partition root in the attestation certifies another partition: " +
			"the chains are of two HSMs")
		for _, c := range issued(r, all) {
			if bytes.Equal(c.RawSubjectPublicKeyInfo, p.partition.RawSubjectPublicKeyInfo) {
				return r, c, nil
			}
		}
	}
	return nil, nil, err
}

// vendors reports whether a certificate holds the key of the vendor's root.
func (p path) vendors(c *x509.Certificate) bool {
	return bytes.Equal(c.RawSubjectPublicKeyInfo, p.root.Certificate.RawSubjectPublicKeyInfo)
}

// during checks that certificates are valid at a time, and returns when the first of them ends.
func during(at time.Time, all ...*x509.Certificate) (until time.Time, err error) {
	for _, c := range all {
		if at.Before(c.NotBefore) {
			return until, fmt.Errorf("the certificate of %s begins at %s, and it is judged for %s",
				c.Subject.CommonName, c.NotBefore.UTC().Format(time.RFC3339), at.UTC().Format(time.RFC3339))
		}
		if at.After(c.NotAfter) {
			return until, fmt.Errorf("the certificate of %s expired at %s, and it is judged for %s",
				c.Subject.CommonName, c.NotAfter.UTC().Format(time.RFC3339), at.UTC().Format(time.RFC3339))
		}
		if until.IsZero() || c.NotAfter.Before(until) {
			until = c.NotAfter
		}
	}
	return until, nil
}

// fingerprint pins the key of a certificate, as keyd pins all keys.
func fingerprint(c *x509.Certificate) key.Fingerprint {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return key.Fingerprint("sha256:" + hex.EncodeToString(sum[:]))
}
