package vault_test

import (
	"context"
	"crypto/rand"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/vault"
)

// Where a credential got its token.
const (
	virtualMachine = "169.254.169.254"
	appService     = "127.0.0.1"
	entra          = "login.microsoftonline.com"
)

// way is a kind of credential and the environment in which it works.
type way struct {
	name    string
	cfg     vault.CredentialConfig
	environ []string // NAME=VALUE
	host    string   // the host that gives the token
}

// trySignIn makes the credential with keyd's own code and uses it.
func (b *bench) trySignIn(t *testing.T, cfg vault.CredentialConfig) error {
	t.Helper()
	cred, err := vault.NewCredential(cfg, vault.HTTPClient(b.Transport()))
	if err != nil {
		t.Fatal(err)
	}
	b.cred = cred
	_, err = b.client(t).Versions(noRetries(t.Context()), keyName)
	return err
}

// tokens returns the hosts that keyd asked for a token, after this many requests.
func (b *bench) tokens(after int) (hosts []string) {
	for _, r := range b.Requests()[after:] {
		if r.Operation == "token" && !slices.Contains(hosts, r.Host) {
			hosts = append(hosts, r.Host)
		}
	}
	return hosts
}

func setEnviron(t *testing.T, settings []string) {
	t.Helper()
	for _, setting := range settings {
		name, value, _ := strings.Cut(setting, "=")
		t.Setenv(name, value)
	}
}

// federatedToken writes the token that a Kubernetes cluster gives to a workload.
func federatedToken(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

const jwtOfACluster = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJrOHMifQ."

// ways returns keyd's four kinds of credential, each in every environment where it works. SDKs cache tokens for the
// whole process, so every way has its own client id.
func ways(t *testing.T, b *bench) []way {
	t.Helper()
	ids := func() []string {
		return []string{"AZURE_CLIENT_ID=" + rand.Text(), "AZURE_TENANT_ID=" + emulator.DefaultTenantID}
	}
	token, certificate := federatedToken(t, jwtOfACluster), clientCertificate(t)
	cluster := append(ids(), "AZURE_FEDERATED_TOKEN_FILE="+token, "AZURE_AUTHORITY_HOST=https://"+entra)
	application := append(ids(), "AZURE_CLIENT_CERTIFICATE_PATH="+certificate)
	return []way{
		{
			"managed-identity of a virtual machine",
			vault.CredentialConfig{Kind: vault.ManagedIdentity, ClientID: rand.Text()},
			nil,
			virtualMachine,
		},
		{
			"managed-identity in App Service",
			vault.CredentialConfig{Kind: vault.ManagedIdentity, ClientID: rand.Text()},
			b.AppServiceEnviron(),
			appService,
		},
		{"workload-identity by the configuration", vault.CredentialConfig{
			Kind: vault.WorkloadIdentity, TenantID: emulator.DefaultTenantID, ClientID: rand.Text(),
		}, []string{"AZURE_FEDERATED_TOKEN_FILE=" + token}, entra},
		{
			"workload-identity by the environment",
			vault.CredentialConfig{Kind: vault.WorkloadIdentity},
			cluster,
			entra,
		},
		{"client-certificate", vault.CredentialConfig{
			Kind: vault.ClientCertificate, TenantID: emulator.DefaultTenantID, ClientID: rand.Text(),
			CertificateFile: certificate,
		}, nil, entra},
		{
			"default on a virtual machine",
			vault.CredentialConfig{Kind: vault.DefaultCredential},
			ids(),
			virtualMachine,
		},
		{
			"default in App Service",
			vault.CredentialConfig{Kind: vault.DefaultCredential},
			append(ids(), b.AppServiceEnviron()...),
			appService,
		},
		{"default in a cluster", vault.CredentialConfig{Kind: vault.DefaultCredential}, cluster, entra},
		{
			"default with a certificate in the environment",
			vault.CredentialConfig{Kind: vault.DefaultCredential},
			application,
			entra,
		},
	}
}

func TestEachKindOfCredentialSignsInToBothServices(t *testing.T) {
	for _, v := range profiles() {
		b := newBench(t, v, emulator.Options{IdentityListen: "127.0.0.1:0"})
		for _, w := range ways(t, b) {
			t.Run(w.name+" to "+string(v.Kind), func(t *testing.T) {
				setEnviron(t, w.environ)
				before := len(b.Requests())
				b.signIn(t, w.cfg)
				if got := b.tokens(before); !slices.Equal(got, []string{w.host}) {
					t.Errorf("tokens came from %v, want %s", got, w.host)
				}
			})
		}
	}
}

func TestARefusedSignInHasAReasonForEachKind(t *testing.T) {
	certified := vault.CredentialConfig{Kind: vault.ClientCertificate, TenantID: emulator.DefaultTenantID}
	federated := vault.CredentialConfig{Kind: vault.WorkloadIdentity, TenantID: emulator.DefaultTenantID}
	managed, chain := vault.CredentialConfig{
		Kind: vault.ManagedIdentity,
	}, vault.CredentialConfig{
		Kind: vault.DefaultCredential,
	}
	foreign := vault.CredentialConfig{Kind: vault.ClientCertificate, TenantID: "00000000-0000-4000-8000-000000000001"}
	for _, test := range []struct {
		name    string
		cfg     vault.CredentialConfig
		prepare func(*testing.T, *bench)
		class   key.Class
		says    string
	}{
		{"managed-identity: the machine has no such identity", managed, refusing(emulator.Rule{Status: 400}),
			key.Refused, "the requested identity isn't assigned"},
		{"managed-identity: not the platform's header", managed, func(t *testing.T, b *bench) {
			setEnviron(t, append(b.AppServiceEnviron(), "IDENTITY_HEADER=guess"))
		}, key.Refused, "RESPONSE 401"},
		{"workload-identity: no JWT", federated, func(t *testing.T, _ *bench) {
			t.Setenv("AZURE_FEDERATED_TOKEN_FILE", federatedToken(t, "none"))
		}, key.Refused, "AADSTS700027"},
		{"workload-identity: no file", federated, func(t *testing.T, _ *bench) {
			t.Setenv("AZURE_FEDERATED_TOKEN_FILE", "/nonexistent/token")
		}, key.Retry, "/nonexistent/token"},
		{
			"client-certificate: Entra refuses it", certified,
			refusing(emulator.Rule{Host: entra, Status: 401}), key.Refused, "RESPONSE 401",
		},
		{"client-certificate: of another tenant than the vault's", foreign, refusing(emulator.Rule{Status: 500}),
			key.Retry, "isn't configured to acquire tokens for tenant"},
		{"default: nothing is there", chain, refusing(emulator.Rule{Drop: emulator.DropBeforeCommit}),
			key.Retry, "failed to acquire a token"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t, profiles()[0], emulator.Options{IdentityListen: "127.0.0.1:0"})
			t.Setenv("AZURE_TOKEN_CREDENTIALS", "prod")
			test.prepare(t, b)
			cfg := test.cfg
			if cfg.Kind != vault.DefaultCredential {
				cfg.ClientID = rand.Text()
			}
			if cfg.Kind == vault.ClientCertificate {
				cfg.CertificateFile = clientCertificate(t)
			}
			wantClass(t, b.trySignIn(t, cfg), test.class, "no token", test.says)
			for _, r := range b.Requests() {
				if r.Host == premiumHost && r.Status != http.StatusUnauthorized {
					t.Errorf("the vault was asked: %+v", r)
				}
			}
		})
	}
}

// refusing makes the token endpoints misbehave.
func refusing(rule emulator.Rule) func(*testing.T, *bench) {
	rule.Operation = "token"
	return func(_ *testing.T, b *bench) { b.Fail(rule) }
}

// failing is a credential whose sign-in fails with an error answer.
type failing struct{ status int }

func (f failing) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	body := io.NopCloser(strings.NewReader(""))
	return azcore.AccessToken{}, &azidentity.AuthenticationFailedError{
		RawResponse: &http.Response{StatusCode: f.status, Body: body},
	}
}

// azidentity itself tries for a minute or more before it fails.
func TestASignInThatFailsForNowIsTriedAgain(t *testing.T) {
	t.Parallel()
	for status, class := range map[int]key.Class{
		400: key.Refused, 401: key.Refused, 403: key.Refused, 429: key.Retry, 500: key.Retry, 503: key.Retry,
	} {
		b := newBench(t, profiles()[0], emulator.Options{})
		b.cred = failing{status}
		_, err := b.client(t).Versions(noRetries(t.Context()), keyName)
		wantClass(t, err, class, "no token")
	}
}
