package emulator_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/keyd-project/keyd/internal/emulator"
)

func do(t *testing.T, e *emulator.Emulator, method, url string, header http.Header,
	body string) (*http.Response, string) {
	t.Helper()
	return doBy(t, e.Transport(), method, url, header, body)
}

// doBy uses a transport that keeps its connections.
func doBy(t *testing.T, by http.RoundTripper, method, url string, header http.Header,
	body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		req.Header = header
	}
	res, err := by.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(answer)
}

func token(t *testing.T, cred azcore.TokenCredential, audience string) string {
	t.Helper()
	tk, err := cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{audience + "/.default"}})
	if err != nil {
		t.Fatal(err)
	}
	return tk.Token
}

func TestEveryKindOfCredentialGetsATokenTheVaultAccepts(t *testing.T) {
	e := start(t, emulator.Options{})
	options := clientOptions(e)
	federated := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(federated, []byte("eyJhbGciOiJub25lIn0.eyJpc3MiOiJrOHMifQ."), 0o600); err != nil {
		t.Fatal(err)
	}
	certificate, key := clientCertificate(t)
	credentials := map[string]func() (azcore.TokenCredential, error){
		"managed identity, user assigned": func() (azcore.TokenCredential, error) { return managedIdentity(t, e), nil },
		"managed identity, system assigned": func() (azcore.TokenCredential, error) {
			return azidentity.NewManagedIdentityCredential(
				&azidentity.ManagedIdentityCredentialOptions{ClientOptions: options})
		},
		"workload identity": func() (azcore.TokenCredential, error) {
			return azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
				ClientOptions: options, ClientID: rand.Text(), TenantID: emulator.DefaultTenantID,
				TokenFilePath: federated,
			})
		},
		"client certificate": func() (azcore.TokenCredential, error) {
			return azidentity.NewClientCertificateCredential(emulator.DefaultTenantID, rand.Text(), certificate, key,
				&azidentity.ClientCertificateCredentialOptions{ClientOptions: options, SendCertificateChain: true})
		},
		"client certificate, discovery disabled": func() (azcore.TokenCredential, error) {
			return azidentity.NewClientCertificateCredential(emulator.DefaultTenantID, rand.Text(), certificate, key,
				&azidentity.ClientCertificateCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
		},
	}
	for name, newCredential := range credentials {
		t.Run(name, func(t *testing.T) {
			cred, err := newCredential()
			if err != nil {
				t.Fatal(err)
			}
			for _, host := range []string{premium, managedHSM} {
				_, err := clientWith(t, e, host, cred).GetKey(t.Context(), "absent", "", nil)
				wantError(t, err, 404, "KeyNotFound", "")
			}
		})
	}
}

// The default credential probes the endpoint before it asks for a token.
func TestTheDefaultCredentialFindsTheManagedIdentity(t *testing.T) {
	e := start(t, emulator.Options{})
	t.Setenv("AZURE_TOKEN_CREDENTIALS", "prod")
	t.Setenv("AZURE_CLIENT_ID", rand.Text())
	cred, err := azidentity.NewDefaultAzureCredential(
		&azidentity.DefaultAzureCredentialOptions{ClientOptions: clientOptions(e)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = clientWith(t, e, premium, cred).GetKey(t.Context(), "absent", "", nil)
	wantError(t, err, 404, "KeyNotFound", "")
}

func clientCertificate(t *testing.T) ([]*x509.Certificate, any) {
	t.Helper()
	key := generate(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "keyd"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return []*x509.Certificate{cert}, key
}

func TestWithoutATokenTheAnswerIsTheServicesChallenge(t *testing.T) {
	e := start(t, emulator.Options{})
	for host, audience := range map[string]string{premium: "https://vault.azure.net",
		managedHSM: "https://managedhsm.azure.net"} {
		res, body := do(t, e, "GET", "https://"+host+"/keys?api-version=7.6", nil, "")
		want := `Bearer authorization="https://login.microsoftonline.com/` + emulator.DefaultTenantID +
			`", resource="` + audience + `"`
		if res.StatusCode != 401 || res.Header.Get("WWW-Authenticate") != want {
			t.Errorf("%s: %d %q", host, res.StatusCode, res.Header.Get("WWW-Authenticate"))
		}
		if (host == managedHSM) != (body == "") {
			t.Errorf("%s: body %q", host, body)
		}
	}
}

func TestATokenIsCheckedForSignatureAudienceAndExpiry(t *testing.T) {
	c := newClock()
	e := start(t, emulator.Options{Now: c.Now, TokenLifetime: 20 * time.Minute})
	good := token(t, managedIdentity(t, e), "https://vault.azure.net")
	status := func(token string) int {
		res, _ := do(t, e, "GET", "https://"+premium+"/keys?api-version=7.6",
			http.Header{"Authorization": {"Bearer " + token}}, "")
		return res.StatusCode
	}
	if got := status(good); got != 200 {
		t.Fatalf("a good token got %d", got)
	}
	if got := status(token(t, managedIdentity(t, e), "https://managedhsm.azure.net")); got != 401 {
		t.Errorf("a token for another audience got %d", got)
	}
	if got := status(good[:len(good)-8] + "AAAAAAAA"); got != 401 {
		t.Errorf("a token with a broken signature got %d", got)
	}
	c.advance(21 * time.Minute)
	if got := status(good); got != 401 {
		t.Errorf("an expired token got %d", got)
	}
}

func TestATokenOfAnotherTenantIsRefused(t *testing.T) {
	one := start(t, emulator.Options{})
	other := start(t, emulator.Options{TenantID: "00000000-0000-4000-8000-000000000001"})
	tk := token(t, managedIdentity(t, one), "https://vault.azure.net")
	res, _ := do(t, other, "GET", "https://"+premium+"/keys?api-version=7.6",
		http.Header{"Authorization": {"Bearer " + tk}}, "")
	if res.StatusCode != 401 {
		t.Errorf("got %d", res.StatusCode)
	}
}

func TestATokenOutlivesTheEmulatorThatGaveIt(t *testing.T) {
	one, two := start(t, emulator.Options{}), start(t, emulator.Options{})
	tk := token(t, managedIdentity(t, one), "https://vault.azure.net")
	res, _ := do(t, two, "GET", "https://"+premium+"/keys?api-version=7.6",
		http.Header{"Authorization": {"Bearer " + tk}}, "")
	if res.StatusCode != 200 {
		t.Errorf("got %d", res.StatusCode)
	}
}

func TestTheIdentityEndpointWantsItsHeader(t *testing.T) {
	e := start(t, emulator.Options{})
	const url = "http://169.254.169.254/metadata/identity/oauth2/token" +
		"?api-version=2018-02-01&resource=https://vault.azure.net"
	if res, _ := do(t, e, "GET", url, nil, ""); res.StatusCode != 400 {
		t.Errorf("without Metadata: %d", res.StatusCode)
	}
	if res, _ := do(t, e, "GET", url, http.Header{"Metadata": {"true"}}, ""); res.StatusCode != 200 {
		t.Errorf("with Metadata: %d", res.StatusCode)
	}
}

func TestAnAssertionSignedByAnotherKeyIsRefused(t *testing.T) {
	e := start(t, emulator.Options{})
	certificate, _ := clientCertificate(t)
	other := generate(t)
	forged := *certificate[0]
	forged.PublicKey = &other.PublicKey // so that azidentity accepts the pair
	cred, err := azidentity.NewClientCertificateCredential(emulator.DefaultTenantID, rand.Text(),
		[]*x509.Certificate{&forged}, other,
		&azidentity.ClientCertificateCredentialOptions{ClientOptions: clientOptions(e), SendCertificateChain: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = cred.GetToken(t.Context(),
		policy.TokenRequestOptions{Scopes: []string{"https://vault.azure.net/.default"}})
	if err == nil || !strings.Contains(err.Error(), "AADSTS700027") {
		t.Errorf("got %v", err)
	}
}

func TestACallThatWouldEscapeIsRefusedAndRecorded(t *testing.T) {
	e := start(t, emulator.Options{})
	if _, err := (&http.Client{Transport: e.Transport()}).Get("https://graph.microsoft.com/"); err == nil {
		t.Error("CONNECT to an unknown host was accepted")
	}
	if res, _ := do(t, e, "GET", "http://example.com/", nil, ""); res.StatusCode != 502 {
		t.Errorf("plain http to an unknown host: %d", res.StatusCode)
	}
	if got := e.Escapes(); len(got) != 2 || got[0] != "graph.microsoft.com:443" || got[1] != "example.com" {
		t.Errorf("escapes: %v", got)
	}
}

func TestTheEmulatorsAuthoritySignsOnlyForItsHosts(t *testing.T) {
	e := start(t, emulator.Options{})
	res, _ := do(t, e, "GET", "https://"+premium+"/keys?api-version=7.6", nil, "")
	leaf := res.TLS.PeerCertificates[0]
	if len(leaf.DNSNames) != 1 || leaf.DNSNames[0] != premium {
		t.Errorf("names: %v", leaf.DNSNames)
	}
	if key, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		t.Errorf("key: %T", leaf.PublicKey)
	}
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

func managedIdentityOf(t *testing.T, e *emulator.Emulator, clientID string) azcore.TokenCredential {
	t.Helper()
	cred, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{
		ClientOptions: clientOptions(e), ID: azidentity.ClientID(clientID),
	})
	must(t, err)
	return cred
}

// fresh asks the identity endpoint itself, without the SDK's cache.
func fresh(t *testing.T, e *emulator.Emulator, clientID string) string {
	t.Helper()
	res, body := do(t, e, "GET",
		"http://169.254.169.254/metadata/identity/oauth2/token"+
			"?api-version=2018-02-01&resource=https://vault.azure.net&client_id="+clientID,
		http.Header{"Metadata": {"true"}}, "")
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || res.StatusCode != 200 {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	return answer.Token
}

func setEnviron(t *testing.T, settings []string) {
	t.Helper()
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		t.Setenv(name, value)
	}
}

func TestAWorkloadInAppServiceFindsItsIdentity(t *testing.T) {
	e := start(t, emulator.Options{IdentityListen: "127.0.0.1:0"})
	setEnviron(t, e.AppServiceEnviron())
	_, err := newClient(t, e, premium).GetKey(t.Context(), "absent", "", nil)
	wantError(t, err, 404, "KeyNotFound", "")
	endpoint := os.Getenv("IDENTITY_ENDPOINT")
	res, _ := do(t, e, "GET", endpoint+"?api-version=2019-08-01&resource=r",
		http.Header{"X-Identity-Header": {"guess"}}, "")
	if res.StatusCode != 401 {
		t.Errorf("with another header: %d", res.StatusCode)
	}
}

func TestTheDefaultCredentialFindsAppService(t *testing.T) {
	e := start(t, emulator.Options{IdentityListen: "127.0.0.1:0"})
	setEnviron(t, append(e.AppServiceEnviron(), "AZURE_TOKEN_CREDENTIALS=prod", "AZURE_CLIENT_ID="+rand.Text()))
	cred, err := azidentity.NewDefaultAzureCredential(
		&azidentity.DefaultAzureCredentialOptions{ClientOptions: clientOptions(e)})
	must(t, err)
	_, err = clientWith(t, e, premium, cred).GetKey(t.Context(), "absent", "", nil)
	wantError(t, err, 404, "KeyNotFound", "")
}

// systemAssigned makes a client that signs in as the machine's own identity.
func systemAssigned(t *testing.T, e *emulator.Emulator, host string) *azkeys.Client {
	t.Helper()
	cred, err := azidentity.NewManagedIdentityCredential(
		&azidentity.ManagedIdentityCredentialOptions{ClientOptions: clientOptions(e)})
	must(t, err)
	return clientWith(t, e, host, cred)
}

// A vault called by its private endpoint's own name still names its service, so clients with their challenge check on
// refuse it.
func TestAPrivateEndpointNamesItsServiceAndIsRefused(t *testing.T) {
	const private = "contoso-weu.privatelink.vaultcore.azure.net"
	e := startVaults(t, emulator.Options{}, emulator.VaultConfig{Host: private})
	res, _ := do(t, e, "GET", "https://"+private+"/keys?api-version=7.6", nil, "")
	if got := res.Header.Get("WWW-Authenticate"); !strings.Contains(got, `resource="https://vault.azure.net"`) {
		t.Errorf("challenge %q", got)
	}
	_, err := newClient(t, e, private).GetKey(t.Context(), "absent", "", nil)
	if err == nil || !strings.Contains(err.Error(), "challenge resource") {
		t.Errorf("got %v", err)
	}
}
