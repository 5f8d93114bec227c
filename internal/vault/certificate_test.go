package vault_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/vault"
)

func application(file string) vault.CredentialConfig {
	return vault.CredentialConfig{
		Kind: vault.ClientCertificate, TenantID: emulator.DefaultTenantID, ClientID: rand.Text(), CertificateFile: file,
	}
}

// docs/configuration.md lists these formats.
func TestACertificateFileIsAcceptedOrRefusedByName(t *testing.T) {
	t.Parallel()
	good := blocksOf(t, clientCertificate(t))
	certificate, private := good[0], good[1]
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	written := func(blocks ...*pem.Block) string {
		file := filepath.Join(t.TempDir(), "client.pem")
		writePEM(t, file, blocks...)
		return file
	}
	pkcs8 := func(k any) *pem.Block {
		return &pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(k))}
	}
	plain := func(content string) string {
		file := filepath.Join(t.TempDir(), "client")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	other := &pem.Block{Type: "CERTIFICATE", Bytes: foreignCertificate(ec)}
	for name, c := range map[string]struct {
		file string
		says string // "": accepted
	}{
		"PEM":            {written(certificate, private), ""},
		"PEM, key first": {written(private, certificate), ""},
		"PEM, PKCS#1": {
			written(certificate, &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(material())}),
			"",
		},
		"PEM with a chain":               {written(private, other, certificate), ""},
		"PKCS#12 in the old form":        {"testdata/old.p12", ""},
		"PKCS#12 as OpenSSL 3 writes it": {"testdata/openssl3.p12", "openssl pkcs12 -in testdata/openssl3.p12 -nodes"},
		"PKCS#12 with a password":        {"testdata/password.p12", "openssl pkcs12 -in testdata/password.p12 -nodes"},
		"encrypted PEM (PKCS#8)": {
			written(certificate, &pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{0x30, 0}}),
			"private key is encrypted",
		},
		"encrypted PEM (as OpenSSL once did)": {
			written(certificate, &pem.Block{
				Type:    "RSA PRIVATE KEY",
				Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"},
				Bytes:   []byte{1},
			}),
			"private key is encrypted",
		},
		"EC key (SEC 1)": {
			written(certificate, &pem.Block{Type: "EC PRIVATE KEY", Bytes: must(x509.MarshalECPrivateKey(ec))}),
			"an EC key",
		},
		"EC key (PKCS#8)":       {written(certificate, pkcs8(ec)), "an EC key"},
		"Ed25519 key":           {written(certificate, pkcs8(ed)), "another key"},
		"empty":                 {plain(""), "it is empty"},
		"blank":                 {plain(" \n"), "it is empty"},
		"no certificate":        {written(private), "no certificate"},
		"no key":                {written(certificate), "no private key"},
		"another's certificate": {written(other, private), "belongs to none of its certificates"},
		"text":                  {plain("hello\n"), "as PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := vault.NewCredential(application(c.file), http.DefaultClient)
			switch {
			case c.says == "" && err != nil:
				t.Error(err)
			case c.says != "" && err == nil,
				c.says != "" && (!strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), c.file)):
				t.Errorf("got %v, want %q and the file's name", err, c.says)
			}
		})
	}
}

func blocksOf(t *testing.T, file string) (blocks []*pem.Block) {
	t.Helper()
	data := must(os.ReadFile(file))
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return blocks
		}
		blocks = append(blocks, block)
	}
}

func foreignCertificate(ec *ecdsa.PrivateKey) []byte {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	return must(x509.CreateCertificate(rand.Reader, template, template, &ec.PublicKey, ec))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
