package vault_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/vault"
)

func TestEachKindOfCredentialRequiresItsSettings(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cfg  vault.CredentialConfig
		want string
	}{
		"unknown kind": {vault.CredentialConfig{Kind: "password"}, "unknown kind"},
		"unknown cloud": {
			vault.CredentialConfig{Kind: vault.ManagedIdentity, Cloud: "mars"}, "write public, china or usgovernment",
		},
		"certificate, no ids": {
			vault.CredentialConfig{Kind: vault.ClientCertificate}, "tenant_id, client_id and certificate_file",
		},
		"certificate, no file": {
			vault.CredentialConfig{
				Kind: vault.ClientCertificate, TenantID: "t", ClientID: "c", CertificateFile: "/nonexistent",
			},
			"/nonexistent",
		},
		"default with a client": {
			vault.CredentialConfig{Kind: vault.DefaultCredential, ClientID: "c"}, "AZURE_CLIENT_ID",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := vault.NewCredential(c.cfg, http.DefaultClient)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestAClientCertificateSignsIn(t *testing.T) {
	t.Parallel()
	for _, cfg := range []vault.CredentialConfig{
		{Cloud: "china"}, {Cloud: "usgovernment"}, {Cloud: "public"},
		{AuthorityHost: "https://login.microsoftonline.com/"},
	} {
		t.Run(cfg.Cloud, func(t *testing.T) {
			t.Parallel()
			cfg.Kind = vault.ClientCertificate
			cfg.TenantID, cfg.ClientID = emulator.DefaultTenantID, rand.Text()
			cfg.CertificateFile = clientCertificate(t)
			b := newBench(
				t, profiles()[0], emulator.Options{Certificates: []emulator.ClientCertificate{registered(t, cfg)}},
			)
			b.signIn(t, cfg)
		})
	}
}

// registered returns what Entra knows about an application's certificate.
func registered(t *testing.T, cfg vault.CredentialConfig) emulator.ClientCertificate {
	t.Helper()
	c, err := emulator.ParseClientCertificate(cfg.ClientID + "=" + cfg.CertificateFile)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestACertificateThatIsNotRegisteredDoesNotSignIn(t *testing.T) {
	t.Parallel()
	cfg := vault.CredentialConfig{
		Kind: vault.ClientCertificate, TenantID: emulator.DefaultTenantID, ClientID: rand.Text(),
		CertificateFile: clientCertificate(t),
	}
	known := registered(t, cfg)
	cfg.CertificateFile = clientCertificate(t) // a renewed one, of the same key
	b := newBench(t, profiles()[0], emulator.Options{Certificates: []emulator.ClientCertificate{known}})
	wantClass(t, b.trySignIn(t, cfg), key.Refused, "no token", "AADSTS700027")
}

// signIn requires that a credential gives access to the bench's vault and calls no other host.
func (b *bench) signIn(t *testing.T, cfg vault.CredentialConfig) {
	t.Helper()
	if err := b.trySignIn(t, cfg); err != nil {
		t.Error(err)
	}
	if escapes := b.Escapes(); len(escapes) > 0 {
		t.Errorf("calls to %v", escapes)
	}
}

// clientCertificate writes a fresh certificate with an RSA key.
func clientCertificate(t *testing.T) string {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "keyd"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &material().PublicKey, material())
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(material())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "client.pem")
	writePEM(t, file, &pem.Block{Type: "CERTIFICATE", Bytes: der}, &pem.Block{Type: "PRIVATE KEY", Bytes: private})
	return file
}

// replace replaces one file by another, as tools that renew certificates do.
func replace(t *testing.T, file, by string) {
	t.Helper()
	if err := os.Rename(by, file); err != nil {
		t.Fatal(err)
	}
}
