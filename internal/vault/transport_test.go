package vault_test

import (
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/vault"
)

func TestThePublicCertificatesStayTrustedBesideTheFile(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.RedirectHandler("https://elsewhere.example/", http.StatusFound))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	server.StartTLS()
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

// Whoever can change the file could have keyd trust a server of their own.
func TestACAFileThatOthersMayChangeIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Chmod(file, 0o602)); err != nil {
		t.Fatal(err)
	}
	if _, err := vault.NewTransport(file); err == nil || !strings.Contains(err.Error(), "is writable by") {
		t.Errorf("%v, want a refusal that says why", err)
	}
}
