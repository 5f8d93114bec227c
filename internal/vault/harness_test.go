package vault_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/keyd-project/keyd/internal/byok"
	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/vault"
)

const (
	premiumHost = "contoso-weu.vault.azure.net"
	hsmHost     = "contoso.managedhsm.azure.net"
	kekName     = "keyd-kek"
	keyName     = "sa-cmk-key"
)

// profiles are the two services that every behaviour is shown on.
func profiles() []key.Vault {
	return []key.Vault{
		{Name: "contoso-weu", URL: "https://" + premiumHost, Kind: key.KeyVault},
		{Name: "contoso-hsm", URL: "https://" + hsmHost, Kind: key.ManagedHSM},
	}
}

func eachProfile(t *testing.T, test func(*testing.T, *bench)) {
	for _, v := range profiles() {
		t.Run(string(v.Kind), func(t *testing.T) {
			t.Parallel()
			test(t, newBench(t, v, emulator.Options{}))
		})
	}
}

// bench is one vault in the emulator, with everything needed to use it.
type bench struct {
	*emulator.Emulator
	vault  key.Vault
	inside *emulator.Vault
	cred   azcore.TokenCredential
}

func newBench(t *testing.T, v key.Vault, opts emulator.Options) *bench {
	t.Helper()
	opts.Vaults = []emulator.VaultConfig{
		{Host: premiumHost, Profile: emulator.KeyVaultPremium},
		{Host: hsmHost, Profile: emulator.ManagedHSM, PurgeProtection: true},
	}
	e, err := emulator.Start(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	// Its own client id: azidentity caches tokens for the whole process.
	cred, err := vault.NewCredential(vault.CredentialConfig{Kind: vault.ManagedIdentity, ClientID: rand.Text()},
		vault.HTTPClient(e.Transport()))
	if err != nil {
		t.Fatal(err)
	}
	return &bench{Emulator: e, vault: v, inside: e.Vault(strings.TrimPrefix(v.URL, "https://")), cred: cred}
}

func (b *bench) client(t *testing.T, change ...func(*vault.Config)) *vault.Client {
	t.Helper()
	cfg := vault.Config{
		Vault: b.vault, KEKName: kekName, CreateKEK: true, KEKBits: 2048,
		RequestTimeout: 5 * time.Minute, // on a busy machine the emulator takes over 30 s for a pair of RSA-4096
	}
	for _, f := range change {
		f(&cfg)
	}
	c, err := vault.New(cfg, b.cred, vault.HTTPClient(b.Transport()), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ready returns a client whose token and KEK exist, so that a test's failures affect only the call under test.
func (b *bench) ready(t *testing.T, change ...func(*vault.Config)) (*vault.Client, key.KEK) {
	t.Helper()
	c := b.client(t, change...)
	kek, present, err := c.KEK(t.Context(), "")
	if !present && err == nil {
		kek, err = c.CreateKEK(t.Context(), "", nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c, kek
}

// puts counts the imports that reached the vault with a token.
func (b *bench) puts() int {
	n := 0
	for _, r := range b.Requests() {
		if r.Operation == "import" && r.Status != http.StatusUnauthorized {
			n++
		}
	}
	return n
}

func noRetries(ctx context.Context) context.Context {
	return policy.WithRetryOptions(ctx, policy.RetryOptions{MaxRetries: -1})
}

// material is one RSA-2048 key that tests import; making one takes long.
var material = sync.OnceValue(func() *rsa.PrivateKey {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return private
})

// shown is its public half as a vault shows it.
func shown() key.Material {
	m, err := key.FromRSA(&material().PublicKey)
	if err != nil {
		panic(err)
	}
	return m
}

// request wraps private to kek as an HSM would.
func request(t *testing.T, kek key.KEK, private *rsa.PrivateKey) key.ImportRequest {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	aesKey := make([]byte, 32)
	if _, err := rand.Read(aesKey); err != nil {
		t.Fatal(err)
	}
	pub, ok := kek.Material.RSA()
	if !ok {
		t.Fatal("the KEK shows no public key")
	}
	oaep, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, pub, aesKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	kwp, err := subtle.NewKWP(aesKey)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := kwp.Wrap(der)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := byok.Encode(kek.Kid, append(oaep, wrapped...), "keyd test")
	if err != nil {
		t.Fatal(err)
	}
	return key.ImportRequest{
		Key: keyName, Blob: blob,
		Operations: []key.Operation{key.WrapKey, key.UnwrapKey},
		Tags:       map[string]string{key.TagAttempt: "0123456789abcdef0123456789abcdef"},
	}
}

func mustImport(t *testing.T, c *vault.Client, kek key.KEK) key.Version {
	t.Helper()
	v, err := c.Import(t.Context(), request(t, kek, material()))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func wantClass(t *testing.T, err error, class key.Class, parts ...string) *vault.Error {
	t.Helper()
	var e *vault.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a *vault.Error", err)
	}
	if got := key.ClassOf(err); got != class {
		t.Errorf("class %s, want %s: %v", got, class, err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not say %q:\n%v", part, err)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("the error has more than one line:\n%v", err)
	}
	return e
}

// staged is a vault that answers whatever a test wants, once a client has signed in.
type staged func(*http.Request) (*http.Response, error)

const challenge = `Bearer authorization="https://login.microsoftonline.com/tenant", resource="https://vault.azure.net"`

func (s staged) Do(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Authorization") == "" {
		resp := answer(r, http.StatusUnauthorized, "")
		resp.Header.Set("WWW-Authenticate", challenge)
		return resp, nil
	}
	return s(r)
}

func (s staged) client(t *testing.T, change ...func(*vault.Config)) *vault.Client {
	t.Helper()
	cfg := vault.Config{Vault: profiles()[0], KEKName: kekName, CreateKEK: true}
	for _, f := range change {
		f(&cfg)
	}
	c, err := vault.New(cfg, fixedToken{}, s, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func says(body string) staged {
	return func(r *http.Request) (*http.Response, error) { return answer(r, http.StatusOK, body), nil }
}

func answer(r *http.Request, status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Request: r,
		Header: http.Header{"Content-Type": {"application/json"}},
		Body:   io.NopCloser(strings.NewReader(body)),
	}
}

type fixedToken struct{}

func (fixedToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// interposed is a client of the emulator with a test's own code in between.
func (b *bench) interposed(
	t *testing.T,
	do func(r *http.Request, next func(*http.Request) (*http.Response, error)) (*http.Response, error),
) *vault.Client {
	t.Helper()
	next := vault.HTTPClient(b.Transport())
	c, err := vault.New(vault.Config{Vault: b.vault, KEKName: kekName}, b.cred,
		transporter(func(r *http.Request) (*http.Response, error) { return do(r, next.Do) }), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// foreignKEK is a KEK that no vault knows.
func foreignKEK() key.KEK {
	return key.KEK{
		Kid:      "https://" + premiumHost + "/keys/" + kekName + "/" + versionID,
		Material: shown(),
	}
}
