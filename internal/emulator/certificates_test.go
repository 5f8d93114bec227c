package emulator_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/golang-jwt/jwt/v5"
	"github.com/keyd-project/keyd/internal/emulator"
)

const application = "5d3c1e7e-0000-4000-8000-00000000000c"

// A client with a registered certificate must use it, with or without a chain in the assertion; any other client
// signs in with whatever it has.
func TestAClientMustUseItsRegisteredCertificate(t *testing.T) {
	mine, key := clientCertificate(t)
	other, otherKey := clientCertificate(t)
	clock := newClock()
	e := start(t, emulator.Options{Now: clock.Now,
		Certificates: []emulator.ClientCertificate{{ClientID: application, Certificate: mine[0]}}})
	signIn := func(client string, certificates []*x509.Certificate, key any, chain bool) error {
		options := &azidentity.ClientCertificateCredentialOptions{ClientOptions: clientOptions(e),
			SendCertificateChain: chain}
		cred, err := azidentity.NewClientCertificateCredential(emulator.DefaultTenantID, client, certificates, key,
			options)
		must(t, err)
		_, err = cred.GetToken(t.Context(),
			policy.TokenRequestOptions{Scopes: []string{"https://vault.azure.net/.default"}})
		return err
	}
	forged := *mine[0]
	forged.PublicKey = other[0].PublicKey // so that azidentity accepts the pair
	for _, chain := range []bool{false, true} {
		must(t, signIn(application, mine, key, chain))
		must(t, signIn("another-application", other, otherKey, chain))
		for name, err := range map[string]error{
			"another certificate":          signIn(application, other, otherKey, chain),
			"the certificate, another key": signIn(application, []*x509.Certificate{&forged}, otherKey, chain),
		} {
			if err == nil || !strings.Contains(err.Error(), "AADSTS700027") {
				t.Errorf("%s, chain %v: %v", name, chain, err)
			}
		}
	}
	clock.advance(2 * time.Hour)
	if err := signIn(application, mine, key, false); err == nil || !strings.Contains(err.Error(), "in force") {
		t.Errorf("after the certificate's end: %v", err)
	}
}

func TestAKnownClientsAssertionIsCheckedWhole(t *testing.T) {
	mine, key := clientCertificate(t)
	e := start(t,
		emulator.Options{Certificates: []emulator.ClientCertificate{{ClientID: application, Certificate: mine[0]}}})
	endpoint := "https://login.microsoftonline.com/" + emulator.DefaultTenantID + "/oauth2/v2.0/token"
	for name, test := range map[string]struct {
		change func(*jwt.Token, jwt.MapClaims)
		status int
	}{
		"good":              {func(*jwt.Token, jwt.MapClaims) {}, 200},
		"issued by another": {func(_ *jwt.Token, c jwt.MapClaims) { c["iss"] = "k8s" }, 401},
		"for another":       {func(_ *jwt.Token, c jwt.MapClaims) { c["sub"] = "k8s" }, 401},
		"over": {func(_ *jwt.Token, c jwt.MapClaims) { c["exp"] = time.Now().Add(-time.Hour).Unix() },
			401},
		"without end":   {func(_ *jwt.Token, c jwt.MapClaims) { delete(c, "exp") }, 401},
		"not yet":       {func(_ *jwt.Token, c jwt.MapClaims) { c["nbf"] = time.Now().Add(time.Hour).Unix() }, 401},
		"no thumbprint": {func(j *jwt.Token, _ jwt.MapClaims) { delete(j.Header, "x5t#S256") }, 401},
	} {
		t.Run(name, func(t *testing.T) {
			claims := jwt.MapClaims{"iss": application, "sub": application, "aud": endpoint,
				"exp": time.Now().Add(time.Minute).Unix()}
			assertion := jwt.NewWithClaims(jwt.SigningMethodPS256, claims)
			assertion.Header["x5t#S256"] = thumbprint(mine[0])
			test.change(assertion, claims)
			signed, err := assertion.SignedString(key)
			must(t, err)
			if status, body := grant(t, e, endpoint, application, signed); status != test.status {
				t.Errorf("%d %s", status, body)
			}
		})
	}
}

func TestParseClientCertificate(t *testing.T) {
	certificates, _ := clientCertificate(t)
	dir := t.TempDir()
	write := func(name string, blocks ...*pem.Block) string {
		var text []byte
		for _, b := range blocks {
			text = append(text, pem.EncodeToMemory(b)...)
		}
		file := filepath.Join(dir, name)
		must(t, os.WriteFile(file, text, 0o600))
		return file
	}
	key := &pem.Block{Type: "PRIVATE KEY", Bytes: []byte("k")}
	good := write("good", key, &pem.Block{Type: "CERTIFICATE", Bytes: certificates[0].Raw})
	c, err := emulator.ParseClientCertificate(application + "=" + good)
	if err != nil || c.ClientID != application || !c.Certificate.Equal(certificates[0]) {
		t.Errorf("%+v, %v", c, err)
	}
	for _, text := range []string{
		"", application, "=" + good, application + "=" + good + ".none", application + "=" + write("key", key),
		application + "=" + write("broken", &pem.Block{Type: "CERTIFICATE", Bytes: []byte("c")}),
	} {
		if _, err := emulator.ParseClientCertificate(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func thumbprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// grant requests a token with a client assertion.
func grant(t *testing.T, e *emulator.Emulator, endpoint, client, assertion string) (int, string) {
	t.Helper()
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {client}, "scope": {"https://vault.azure.net/.default"},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		"client_assertion":      {assertion},
	}
	res, body := do(t, e, "POST", endpoint, http.Header{"Content-Type": {"application/x-www-form-urlencoded"}},
		form.Encode())
	return res.StatusCode, body
}
