package vault_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/vault"
)

func TestCredentialsNeedWhatTheirKindNeeds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cfg  vault.CredentialConfig
		want string
	}{
		"unknown kind":          {vault.CredentialConfig{Kind: "password"}, "unknown kind"},
		"unknown cloud":         {vault.CredentialConfig{Kind: vault.ManagedIdentity, Cloud: "mars"}, "write public, china or usgovernment"},
		"certificate, no ids":   {vault.CredentialConfig{Kind: vault.ClientCertificate}, "tenant_id, client_id and certificate_file"},
		"certificate, no file":  {vault.CredentialConfig{Kind: vault.ClientCertificate, TenantID: "t", ClientID: "c", CertificateFile: "/nonexistent"}, "/nonexistent"},
		"default with a client": {vault.CredentialConfig{Kind: vault.DefaultCredential, ClientID: "c"}, "AZURE_CLIENT_ID"},
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
		{Cloud: "china"}, {Cloud: "usgovernment"}, {Cloud: "public"}, {AuthorityHost: "https://login.microsoftonline.com/"},
	} {
		t.Run(cfg.Cloud, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, profiles()[0], emulator.Options{})
			cfg.Kind = vault.ClientCertificate
			cfg.TenantID, cfg.ClientID = emulator.DefaultTenantID, "5d3c1e7e-0000-4000-8000-000000000001"
			cfg.CertificateFile = clientCertificate(t)
			b.signIn(t, cfg)
		})
	}
}

// signIn requires that a credential opens the bench's vault, and calls nobody else.
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
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "keyd"},
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
