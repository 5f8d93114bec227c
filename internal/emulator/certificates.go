package emulator

import (
	"bytes"
	"crypto/sha1" // the thumbprint x5t of RFC 7515 is defined with SHA-1
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// ClientCertificate is registered for an application, which can then sign in only with
// its certificates.
type ClientCertificate struct {
	ClientID    string
	Certificate *x509.Certificate
}

// ParseClientCertificate parses CLIENT=FILE and reads the file's first certificate, in
// PEM.
func ParseClientCertificate(s string) (ClientCertificate, error) {
	client, file, _ := strings.Cut(s, "=")
	if client == "" || file == "" {
		return ClientCertificate{}, fmt.Errorf("certificate %q: write CLIENT=FILE", s)
	}
	rest, err := os.ReadFile(file)
	if err != nil {
		return ClientCertificate{}, fmt.Errorf("certificate of %s: %w", client, err)
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return ClientCertificate{}, fmt.Errorf("certificate of %s: %s has none in PEM", client, file)
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return ClientCertificate{}, fmt.Errorf("certificate of %s: %s: %w", client, file, err)
		}
		return ClientCertificate{client, c}, nil
	}
}

// registered returns a client's certificates. Without any, every certificate is
// accepted.
func (e *Emulator) registered(clientID string) (of []*x509.Certificate) {
	for _, c := range e.opts.Certificates {
		if strings.EqualFold(c.ClientID, clientID) {
			of = append(of, c.Certificate)
		}
	}
	return of
}

// checkSigned requires that one of the client's certificates is named by the
// assertion's thumbprint, is valid now and signed the assertion, and that the assertion
// has not expired.
func (e *Emulator) checkSigned(assertion string, certificates []*x509.Certificate) error {
	now := e.opts.Now()
	_, err := jwt.Parse(assertion, func(t *jwt.Token) (any, error) { return signedBy(t, certificates, now) },
		jwt.WithValidMethods([]string{"RS256", "PS256"}),
		jwt.WithExpirationRequired(), jwt.WithLeeway(5*time.Minute),
		jwt.WithTimeFunc(func() time.Time { return now }),
	)
	return err
}

func signedBy(t *jwt.Token, certificates []*x509.Certificate, now time.Time) (any, error) {
	for _, c := range certificates {
		if !namesCertificate(t, c) {
			continue
		}
		if now.Before(c.NotBefore) || now.After(c.NotAfter) {
			return nil, fmt.Errorf("the certificate is in force from %s to %s", c.NotBefore, c.NotAfter)
		}
		return c.PublicKey, nil
	}
	return nil, fmt.Errorf("the certificate with which the client assertion is signed is not registered")
}

// namesCertificate accepts base64 in each alphabet: SDKs differ.
func namesCertificate(t *jwt.Token, c *x509.Certificate) bool {
	sum256, sum1 := sha256.Sum256(c.Raw), sha1.Sum(c.Raw)
	for name, sum := range map[string][]byte{"x5t#S256": sum256[:], "x5t": sum1[:]} {
		text, _ := t.Header[name].(string)
		if thumbprint, err := decodeBase64(text); err == nil && bytes.Equal(thumbprint, sum) {
			return true
		}
	}
	return false
}
