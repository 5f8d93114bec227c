package emulator

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"slices"
	"sync"
	"time"
)

// authority is a certificate authority, discarded at the end unless it is stored in a file. Its certificates have
// dates of the wall clock, because TLS clients check them with that clock.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte

	mu     sync.Mutex
	leaves map[string]*tls.Certificate
}

func authorityFor(opts Options) (*authority, error) {
	if opts.AuthorityFile == "" {
		return newAuthority()
	}
	return keptAuthority(opts.AuthorityFile)
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generating the emulator's authority: %w", err)
	}
	template, err := certificateTemplate("keyvault-emulator throw-away authority")
	if err != nil {
		return nil, err
	}
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("signing the emulator's authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading back the emulator's authority: %w", err)
	}
	return authorityOf(cert, key), nil
}

func authorityOf(cert *x509.Certificate, key *ecdsa.PrivateKey) *authority {
	return &authority{
		cert: cert, key: key,
		pem:    pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: cert.Raw}),
		leaves: map[string]*tls.Certificate{},
	}
}

const (
	certificateBlock = "CERTIFICATE"
	keyBlock         = "EC PRIVATE KEY" // RFC 5915
)

// renewBefore is how long before its expiry a stored authority is replaced.
const renewBefore = 30 * 24 * time.Hour

// keptAuthority returns the authority stored in a file. If there is none, or if it
// expires soon, it creates one and stores it there: certificate and private key, in
// PEM.
func keptAuthority(path string) (*authority, error) {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the emulator's authority: %w", err)
	}
	if err == nil {
		a, err := parseAuthority(data)
		if err != nil {
			return nil,
				fmt.Errorf("%s does not hold the emulator's authority (%w): remove it, and the emulator makes "+
					"a new one",
					path, err)
		}
		if time.Until(a.cert.NotAfter) > renewBefore {
			return a, nil
		}
	}
	a, err := newAuthority()
	if err != nil {
		return nil, err
	}
	return a, a.save(path)
}

func parseAuthority(data []byte) (*authority, error) {
	certificate, rest := pem.Decode(data)
	secret, _ := pem.Decode(rest)
	if certificate == nil || certificate.Type != certificateBlock || secret == nil || secret.Type != keyBlock {
		return nil, errors.New("it does not hold a certificate and then a private key")
	}
	cert, err := x509.ParseCertificate(certificate.Bytes)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParseECPrivateKey(secret.Bytes)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("its private key is not the certificate's")
	}
	return authorityOf(cert, key), nil
}

// save writes the authority to a file, whole or not at all.
func (a *authority) save(path string) error {
	der, err := x509.MarshalECPrivateKey(a.key)
	if err != nil {
		return fmt.Errorf("encoding the emulator's authority: %w", err)
	}
	text := slices.Concat(a.pem, pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}))
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return fmt.Errorf("keeping the emulator's authority: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("keeping the emulator's authority: %w", err)
	}
	return nil
}

// leaf returns the server certificate for host, created once.
func (a *authority) leaf(host string) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.leaves[host]; c != nil {
		return c, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generating a certificate for %s: %w", host, err)
	}
	template, err := certificateTemplate(host)
	if err != nil {
		return nil, err
	}
	template.DNSNames = []string{host}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate for %s: %w", host, err)
	}
	c := &tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key}
	a.leaves[host] = c
	return c, nil
}

func certificateTemplate(name string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("choosing a serial number for %s: %w", name, err)
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(1, 0, 0),
	}, nil
}
