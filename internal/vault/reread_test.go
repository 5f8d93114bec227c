package vault_test

import (
	"crypto/rand"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/vault"
)

// try calls the vault with an existing credential.
func (b *bench) try(t *testing.T, cred *vault.Credential) error {
	t.Helper()
	b.cred = cred
	_, err := b.client(t).Versions(noRetries(t.Context()), keyName)
	return err
}

func TestARenewedCertificateIsReadWithoutAReload(t *testing.T) {
	t.Parallel()
	cfg := application(clientCertificate(t))
	renewed := cfg
	renewed.CertificateFile = clientCertificate(t)
	b := newBench(
		t, profiles()[0], emulator.Options{Certificates: []emulator.ClientCertificate{registered(t, renewed)}},
	)
	cred, err := vault.NewCredential(cfg, vault.HTTPClient(b.Transport()))
	if err != nil {
		t.Fatal(err)
	}
	wantClass(
		t, b.try(t, cred), key.Refused, "AADSTS700027",
		"check that the certificate in "+cfg.CertificateFile+" is registered",
	)
	before := cred.Reread()
	replace(t, cfg.CertificateFile, renewed.CertificateFile)
	if err := b.try(t, cred); err != nil {
		t.Errorf("after the renewal: %v", err)
	}
	if after := cred.Reread(); after.Renewals != before.Renewals+1 || after.Err != nil {
		t.Errorf("%+v, then %+v", before, after)
	}
}

func TestAFileThatCannotBeUsedKeepsTheCertificateBefore(t *testing.T) {
	t.Parallel()
	cfg := application(clientCertificate(t))
	b := newBench(t, profiles()[0], emulator.Options{Certificates: []emulator.ClientCertificate{registered(t, cfg)}})
	cred, err := vault.NewCredential(cfg, vault.HTTPClient(b.Transport()))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cfg.CertificateFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if state := cred.Reread(); state.Err == nil || !strings.Contains(state.Err.Error(), "it is empty") ||
		state.Ends.IsZero() {
		t.Errorf("%+v", state)
	}
	if err := b.try(t, cred); err != nil {
		t.Errorf("with the certificate before: %v", err)
	}
	if err := os.Remove(cfg.CertificateFile); err != nil {
		t.Fatal(err)
	}
	if state := cred.Reread(); state.Err == nil || !strings.Contains(state.Err.Error(), cfg.CertificateFile) {
		t.Errorf("%+v", state)
	}
}

func TestACertificateThatOthersMayExchangeIsNotUsed(t *testing.T) {
	t.Parallel()
	cfg := application(clientCertificate(t))
	cred, err := vault.NewCredential(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(cfg.CertificateFile, 0o620); err != nil {
		t.Fatal(err)
	}
	const want = "is writable by group or others"
	if state := cred.Reread(); state.Err == nil || !strings.Contains(state.Err.Error(), want) || state.Ends.IsZero() {
		t.Errorf("while keyd runs: %+v", state)
	}
	if _, err := vault.NewCredential(cfg, nil); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("at the start: %v", err)
	}
}

func TestACertificateThatHasEndedIsRefused(t *testing.T) {
	t.Parallel()
	var later atomic.Bool
	cfg := application(clientCertificate(t)) // good for an hour
	b := newBench(t, profiles()[0], emulator.Options{Certificates: []emulator.ClientCertificate{registered(t, cfg)}})
	cfg.Clock = func() time.Time {
		if later.Load() {
			return time.Now().Add(2 * time.Hour)
		}
		return time.Now()
	}
	cred, err := vault.NewCredential(cfg, vault.HTTPClient(b.Transport()))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.try(t, cred); err != nil {
		t.Fatal(err)
	}
	later.Store(true)
	wantClass(
		t, b.try(t, cred), key.Refused, "the certificate in "+cfg.CertificateFile+" ended at 20",
		"systemctl restart keyd",
	)
	if _, err := vault.NewCredential(cfg, http.DefaultClient); err == nil ||
		!strings.Contains(err.Error(), "ended at 20") {
		t.Errorf("a new credential: %v", err)
	}
}

func TestABadFederatedTokenIsReadAgainAtOnce(t *testing.T) {
	for name, first := range map[string]string{"no JWT": "none", "empty": ""} {
		t.Run(name, func(t *testing.T) {
			file := federatedToken(t, first)
			t.Setenv("AZURE_FEDERATED_TOKEN_FILE", file)
			cfg := vault.CredentialConfig{
				Kind:     vault.WorkloadIdentity,
				TenantID: emulator.DefaultTenantID,
				ClientID: rand.Text(),
			}
			b := newBench(t, profiles()[0], emulator.Options{})
			cred, err := vault.NewCredential(cfg, vault.HTTPClient(b.Transport()))
			if err != nil {
				t.Fatal(err)
			}
			if err := b.try(t, cred); err == nil || !strings.Contains(err.Error(), "federated credential") {
				t.Fatalf("with a bad token: %v", err)
			}
			replace(t, file, federatedToken(t, jwtOfACluster))
			if err := b.try(t, cred); err != nil {
				t.Errorf("with a good one: %v", err)
			}
		})
	}
}

func TestEachKindOfCredentialHasAHintOfItsOwn(t *testing.T) {
	for kind, says := range map[string]string{
		vault.ManagedIdentity:   "NO_PROXY holds 169.254.169.254",
		vault.WorkloadIdentity:  "issuer, subject and audience",
		vault.ClientCertificate: "is registered with the application",
		vault.DefaultCredential: "name it in azure.credential instead of default",
	} {
		t.Run(kind, func(t *testing.T) {
			t.Setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")
			t.Setenv("AZURE_FEDERATED_TOKEN_FILE", federatedToken(t, jwtOfACluster))
			cfg := vault.CredentialConfig{Kind: kind, TenantID: emulator.DefaultTenantID}
			if kind != vault.DefaultCredential {
				cfg.ClientID = rand.Text()
			}
			if kind == vault.ClientCertificate {
				cfg.CertificateFile = clientCertificate(t)
			}
			b := newBench(t, profiles()[0], emulator.Options{})
			b.Fail(emulator.Rule{Operation: "token", Status: http.StatusBadRequest})
			err := b.trySignIn(t, cfg)
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("got %v, want %q", err, says)
			}
			if kind != vault.ManagedIdentity && strings.Contains(err.Error(), "NO_PROXY holds") {
				t.Errorf("it has the hint of a managed identity: %v", err)
			}
		})
	}
}
