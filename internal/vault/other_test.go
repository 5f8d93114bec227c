package vault_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/vault"
)

func TestEveryRequestIsCounted(t *testing.T) {
	t.Parallel()
	b := newBench(t, profiles()[0], emulator.Options{})
	reg := prometheus.NewPedanticRegistry()
	c, err := vault.New(vault.Config{Vault: b.vault, KEKName: kekName}, b.cred, vault.HTTPClient(b.Transport()), vault.NewMetrics(reg), nil)
	if err != nil {
		t.Fatal(err)
	}
	b.Fail(emulator.Rule{Operation: "versions", Count: 1, Status: http.StatusTooManyRequests})
	if _, err := c.Versions(t.Context(), keyName); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Newest(t.Context(), keyName); !vault.IsNotFound(err) {
		t.Fatal(err)
	}
	want := `
# HELP keyd_vault_requests_total HTTP requests to a vault, retries included, by operation and class of the answer (2xx, 3xx, 4xx, 5xx, error).
# TYPE keyd_vault_requests_total counter
keyd_vault_requests_total{code="2xx",operation="list_versions",vault="contoso-weu"} 1
keyd_vault_requests_total{code="4xx",operation="get_newest",vault="contoso-weu"} 1
keyd_vault_requests_total{code="4xx",operation="list_versions",vault="contoso-weu"} 1
# HELP keyd_vault_throttled_total Answers 429 (too many requests) from a vault.
# TYPE keyd_vault_throttled_total counter
keyd_vault_throttled_total{vault="contoso-weu"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "keyd_vault_requests_total", "keyd_vault_throttled_total"); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"keyd_vault_request_duration_seconds", "keyd_vault_clock_skew_seconds"} {
		if n, err := testutil.GatherAndCount(reg, name); err != nil || n == 0 {
			t.Errorf("%s: %d series, %v", name, n, err)
		}
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

func TestThePublicCertificatesStayTrustedBesideTheFile(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.RedirectHandler("https://elsewhere.example/", http.StatusFound))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	writePEM(t, file, &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})

	transport, err := vault.NewTransport(file)
	if err != nil {
		t.Fatal(err)
	}
	defer transport.CloseIdleConnections()
	resp, err := vault.HTTPClient(transport).Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusFound {
		t.Errorf("the redirect was followed to a %d", resp.StatusCode)
	}

	plain, err := vault.NewTransport("")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.CloseIdleConnections()
	if _, err := vault.HTTPClient(plain).Get(server.URL); err == nil {
		t.Error("an unknown authority was trusted without the file")
	}
}

func TestABadCAFileIsNamed(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty.pem")
	writePEM(t, empty)
	for _, file := range []string{empty, filepath.Join(t.TempDir(), "absent.pem")} {
		if _, err := vault.NewTransport(file); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("got %v", err)
		}
	}
}

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
			cred, err := vault.NewCredential(cfg, vault.HTTPClient(b.Transport()))
			if err != nil {
				t.Fatal(err)
			}
			b.cred = cred
			if _, err := b.client(t).Versions(t.Context(), keyName); err != nil {
				t.Error(err)
			}
			if escapes := b.Escapes(); len(escapes) > 0 {
				t.Errorf("calls to %v", escapes)
			}
		})
	}
}

func TestWorkloadIdentitySignsIn(t *testing.T) {
	b := newBench(t, profiles()[1], emulator.Options{})
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("eyJhbGciOiJub25lIn0.e30."), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AZURE_FEDERATED_TOKEN_FILE", token)
	cred, err := vault.NewCredential(vault.CredentialConfig{
		Kind: vault.WorkloadIdentity, TenantID: emulator.DefaultTenantID, ClientID: rand.Text(),
	}, vault.HTTPClient(b.Transport()))
	if err != nil {
		t.Fatal(err)
	}
	b.cred = cred
	if _, err := b.client(t).Versions(t.Context(), keyName); err != nil {
		t.Error(err)
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

func writePEM(t *testing.T, file string, blocks ...*pem.Block) {
	t.Helper()
	var out []byte
	for _, b := range blocks {
		out = append(out, pem.EncodeToMemory(b)...)
	}
	if err := os.WriteFile(file, out, 0o600); err != nil {
		t.Fatal(err)
	}
}
