package vault

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// clientCertificate is the certificate and key with which keyd signs in as an application.
type clientCertificate struct {
	chain   []*x509.Certificate // the private key's own certificate first
	private *rsa.PrivateKey
}

// parseCertificate reads a certificate with its unencrypted RSA key. For other common formats, the error names the
// format, and the command that converts the file.
func parseCertificate(data []byte, file string) (c clientCertificate, err error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return c, errors.New("it is empty: write the certificate and its private key into it, as PEM")
	}
	if err := refusedPEM(data, file); err != nil {
		return c, err
	}
	chain, private, err := azidentity.ParseCertificates(data, nil)
	switch {
	case err != nil && data[0] == 0x30: // a SEQUENCE of DER, such as PKCS#12 (RFC 7292)
		return c, fmt.Errorf(
			"it is PKCS#12 with a password or as OpenSSL 3 writes it, or no PKCS#12, and keyd reads neither (%w): "+
				"write it as PEM: openssl pkcs12 -in %s -nodes -out %[2]s.pem", err, file,
		)
	case err != nil:
		return c, fmt.Errorf("%w: it must hold the certificate and its private key, as PEM", err)
	}
	if c.private, err = rsaKey(private); err != nil {
		return c, err
	}
	return c, c.order(chain)
}

// refusedPEM finds blocks that keyd cannot read.
func refusedPEM(data []byte, file string) error {
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return nil
		}
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY", strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
			return fmt.Errorf("its private key is encrypted, and keyd has no password for it: write it without one "+
				"(openssl pkey -in %s -out %[1]s.new), and keep the file from others by its mode, "+
				"or as an encrypted systemd credential", file)
		case block.Type == "EC PRIVATE KEY":
			return errNotRSA("an EC")
		}
	}
}

func rsaKey(private crypto.PrivateKey) (*rsa.PrivateKey, error) {
	switch k := private.(type) {
	case *rsa.PrivateKey:
		return k, nil
	case *ecdsa.PrivateKey:
		return nil, errNotRSA("an EC")
	}
	return nil, errNotRSA("another")
}

func errNotRSA(kind string) error {
	return fmt.Errorf(
		"its private key is %s key, and Entra takes an application's certificate with an RSA key only: "+
			"make one with RSA of 2048 bits or more", kind,
	)
}

// order puts the private key's certificate first.
func (c *clientCertificate) order(chain []*x509.Certificate) error {
	for i, x := range chain {
		if c.private.PublicKey.Equal(x.PublicKey) {
			c.chain = append([]*x509.Certificate{x}, append(chain[:i:i], chain[i+1:]...)...)
			return nil
		}
	}
	return errors.New("its private key belongs to none of its certificates: put the two that belong together into it")
}

// ends is when Entra stops accepting the certificate.
func (c clientCertificate) ends() time.Time { return c.chain[0].NotAfter.UTC() }

func (c clientCertificate) credential(cfg CredentialConfig) (azcore.TokenCredential, error) {
	return azidentity.NewClientCertificateCredential(
		cfg.TenantID,
		cfg.ClientID,
		c.chain,
		c.private,
		&azidentity.ClientCertificateCredentialOptions{
			ClientOptions:            cfg.options,
			DisableInstanceDiscovery: cfg.AuthorityHost != "",
		},
	)
}

// hasEnded says that a certificate has expired.
type hasEnded struct {
	file string
	at   time.Time
}

// HasEnded reports whether a certificate cannot be used because it has expired.
func HasEnded(err error) bool {
	var ended *hasEnded
	return errors.As(err, &ended)
}

func (e *hasEnded) Error() string {
	return fmt.Sprintf("the certificate in %s ended at %s", e.file, e.at.Format(time.RFC3339))
}
