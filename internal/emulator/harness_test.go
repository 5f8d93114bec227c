package emulator_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/tink-crypto/tink-go/v2/kwp/subtle"
)

const (
	premium    = "contoso-weu.vault.azure.net"
	standard   = "contoso-std.vault.azure.net"
	managedHSM = "contoso.managedhsm.azure.net"
	protected  = "contoso-safe.vault.azure.net"
)

func start(t *testing.T, opts emulator.Options) *emulator.Emulator {
	t.Helper()
	opts.Vaults = append([]emulator.VaultConfig{
		{Host: premium},
		{Host: standard, Profile: emulator.KeyVaultStandard},
		{Host: managedHSM, Profile: emulator.ManagedHSM},
		{Host: protected, PurgeProtection: true},
	}, opts.Vaults...)
	e, err := emulator.Start(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// clock is a settable clock that starts at the present whole second.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now().Truncate(time.Second)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func clientOptions(e *emulator.Emulator) azcore.ClientOptions {
	return azcore.ClientOptions{
		Transport: &http.Client{Transport: e.Transport()},
		Retry:     policy.RetryOptions{MaxRetries: -1},
	}
}

// managedIdentity uses a client id of its own: azidentity caches tokens for
// the whole process.
func managedIdentity(t *testing.T, e *emulator.Emulator) azcore.TokenCredential {
	t.Helper()
	cred, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{
		ClientOptions: clientOptions(e),
		ID:            azidentity.ClientID(rand.Text()),
	})
	if err != nil {
		t.Fatal(err)
	}
	return cred
}

func newClient(t *testing.T, e *emulator.Emulator, host string) *azkeys.Client {
	t.Helper()
	return clientWith(t, e, host, managedIdentity(t, e))
}

func clientWith(t *testing.T, e *emulator.Emulator, host string, cred azcore.TokenCredential) *azkeys.Client {
	t.Helper()
	opts := clientOptions(e)
	opts.APIVersion = "7.6" // a Managed HSM's nextLink has none
	c, err := azkeys.NewClient("https://"+host, cred, &azkeys.ClientOptions{ClientOptions: opts})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ptr[T any](v T) *T { return &v }

func createKEK(t *testing.T, c *azkeys.Client) azkeys.KeyBundle {
	t.Helper()
	res, err := c.CreateKey(t.Context(), "keyd-kek", azkeys.CreateKeyParameters{
		Kty: ptr(azkeys.KeyTypeRSAHSM), KeySize: ptr(int32(2048)),
		KeyOps: []*azkeys.KeyOperation{ptr(azkeys.KeyOperationImport)},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return res.KeyBundle
}

func generate(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// transfer is a blob under construction, in which a test can spoil one thing.
type transfer struct {
	schema, alg, enc, kid string
	kek                   *rsa.PublicKey
	aesKey, plaintext     []byte
	encode                func([]byte) string
}

func newTransfer(t *testing.T, kek azkeys.KeyBundle, target *rsa.PrivateKey) transfer {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(target)
	if err != nil {
		t.Fatal(err)
	}
	aesKey := make([]byte, 32)
	if _, err := rand.Read(aesKey); err != nil {
		t.Fatal(err)
	}
	return transfer{
		schema: "1.0.0", alg: "dir", enc: "CKM_RSA_AES_KEY_WRAP", kid: string(*kek.Key.KID),
		kek:    publicKey(kek),
		aesKey: aesKey, plaintext: der,
		encode: base64.RawURLEncoding.EncodeToString,
	}
}

func (b transfer) wrapped(t *testing.T) []byte {
	t.Helper()
	ciphertext, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, b.kek, b.aesKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	kwp, err := subtle.NewKWP(b.aesKey)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := kwp.Wrap(b.plaintext)
	if err != nil {
		t.Fatal(err)
	}
	return append(ciphertext, wrapped...)
}

func (b transfer) blobOf(t *testing.T, ciphertext []byte) []byte {
	t.Helper()
	blob, err := json.Marshal(map[string]any{
		"schema_version": b.schema,
		"header":         map[string]string{"kid": b.kid, "alg": b.alg, "enc": b.enc},
		"ciphertext":     b.encode(ciphertext),
		"generator":      "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

func (b transfer) blob(t *testing.T) []byte {
	t.Helper()
	return b.blobOf(t, b.wrapped(t))
}

func importParameters(blob []byte) azkeys.ImportKeyParameters {
	return azkeys.ImportKeyParameters{
		Key: &azkeys.JSONWebKey{
			Kty:    ptr(azkeys.KeyTypeRSAHSM),
			KeyOps: []*azkeys.KeyOperation{ptr(azkeys.KeyOperationWrapKey), ptr(azkeys.KeyOperationUnwrapKey)},
			T:      blob,
		},
		KeyAttributes: &azkeys.KeyAttributes{Enabled: ptr(true)},
		Tags:          map[string]*string{"attempt": ptr("1")},
	}
}

func publicKey(b azkeys.KeyBundle) *rsa.PublicKey {
	return &rsa.PublicKey{N: new(big.Int).SetBytes(b.Key.N), E: int(new(big.Int).SetBytes(b.Key.E).Int64())}
}

// importNew imports a fresh key and returns its material.
func importNew(t *testing.T, c *azkeys.Client, kek azkeys.KeyBundle, name string) (*rsa.PrivateKey, azkeys.KeyBundle) {
	t.Helper()
	target := generate(t)
	res, err := c.ImportKey(t.Context(), name, importParameters(newTransfer(t, kek, target).blob(t)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return target, res.KeyBundle
}

// serviceError is the error in an answer's body.
type serviceError struct {
	Status               int
	Code, Inner, Message string
}

func wantError(t *testing.T, err error, status int, code, inner string) serviceError {
	t.Helper()
	var response *azcore.ResponseError
	if !errors.As(err, &response) {
		t.Fatalf("want a %d %s, got %v", status, code, err)
	}
	body, err := io.ReadAll(response.RawResponse.Body)
	if err != nil {
		t.Fatal(err)
	}
	var wire struct {
		Error struct {
			Code, Message string
			InnerError    struct{ Code string }
		}
	}
	if len(body) > 0 {
		if err := json.Unmarshal(body, &wire); err != nil {
			t.Fatalf("error body %q: %v", body, err)
		}
	}
	got := serviceError{response.StatusCode, wire.Error.Code, wire.Error.InnerError.Code, wire.Error.Message}
	if got.Status != status || got.Code != code || got.Inner != inner {
		t.Errorf("got %+v, want status %d, code %q, inner %q", got, status, code, inner)
	}
	return got
}

// fixedKey returns an RSA key of 3072 or 4096 bits from a file, because making one takes seconds.
func fixedKey(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("testdata/rsa%d.pem", bits))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*rsa.PrivateKey)
}

// importBig puts the RSA-4096 key into a vault as an HSM key named "big".
func importBig(t *testing.T, c *azkeys.Client) {
	t.Helper()
	jwk := plainRSA(fixedKey(t, 4096))
	jwk.Kty = ptr(azkeys.KeyTypeRSAHSM)
	if _, err := c.ImportKey(t.Context(), "big", azkeys.ImportKeyParameters{Key: &jwk}, nil); err != nil {
		t.Fatal(err)
	}
}

func plainRSA(key *rsa.PrivateKey) azkeys.JSONWebKey {
	return azkeys.JSONWebKey{
		N: key.N.Bytes(), E: big.NewInt(int64(key.E)).Bytes(), D: key.D.Bytes(),
		P: key.Primes[0].Bytes(), Q: key.Primes[1].Bytes(),
		DP: key.Precomputed.Dp.Bytes(), DQ: key.Precomputed.Dq.Bytes(), QI: key.Precomputed.Qinv.Bytes(),
	}
}
