package vault

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/keyd-project/keyd/internal/key"
)

const (
	fuzzHost    = "contoso-weu.vault.azure.net"
	fuzzKey     = "sa-cmk-key"
	fuzzVersion = "0123456789abcdef0123456789abcdef"
	goodSignIn  = `Bearer authorization="https://login.microsoftonline.com/tenant", resource="https://vault.azure.net"`
)

// played is a vault that answers every authenticated request from a script and checks where tokens go.
type played struct {
	t         *testing.T
	challenge string
	script    func(n int) (status int, body []byte)
	answered  int
}

func (p *played) Do(r *http.Request) (*http.Response, error) {
	resp := &http.Response{StatusCode: http.StatusUnauthorized, Request: r, Header: http.Header{}, Body: http.NoBody}
	if r.Header.Get("Authorization") == "" {
		resp.Header.Set(challengeHeader, p.challenge)
		return resp, nil
	}
	if r.URL.Scheme != "https" || !strings.EqualFold(r.URL.Host, fuzzHost) {
		p.t.Errorf("a token was sent to %s", r.URL)
	}
	var body []byte
	resp.StatusCode, body = p.script(p.answered)
	p.answered++
	resp.Body = io.NopCloser(strings.NewReader(string(body)))
	return resp, nil
}

type anyToken struct{}

func (anyToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func (p *played) client() *Client {
	c, err := New(
		Config{
			Vault:   key.Vault{Name: "contoso-weu", URL: "https://" + fuzzHost, Kind: key.KeyVault},
			KEKName: "keyd-kek",
		},
		anyToken{},
		p,
		nil,
		nil,
	)
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

func onceOnly(ctx context.Context) context.Context {
	return policy.WithRetryOptions(ctx, policy.RetryOptions{MaxRetries: -1})
}

// wantOwnError: whatever an answer contains, its error names vault and key in one line and has a class.
func wantOwnError(t *testing.T, err error) {
	t.Helper()
	var e *Error
	if err != nil && (!errors.As(err, &e) || e.Vault == "" || strings.ContainsAny(err.Error(), "\r\n\x1b")) {
		t.Errorf("an error that does not fit: %#v: %q", err, err)
	}
}

// Whatever a vault answers about one key, keyd gets either an error or a version of that key in that vault with a
// usable public key.
func FuzzKeyBundle(f *testing.F) {
	const kid = `"kid":"https://` + fuzzHost + `/keys/` + fuzzKey + `/` + fuzzVersion + `"`
	modulus := strings.Repeat("q", 342)
	for _, seed := range []string{
		`{"key":{` + kid + `,"kty":"RSA-HSM","key_ops":["wrapKey","unwrapKey"],"n":"` + modulus +
			`","e":"AQAB"},"attributes":{"enabled":true,"created":1700000000,"exp":1800000000},"tags":{"a":"b"}}`,
		`{"key":{` + kid + `,"kty":"RSA","n":"AQ","e":"AQ"},"attributes":{"enabled":true,"created":1}}`,
		`{"key":{` + kid + `,"kty":"RSA-HSM","n":"` + modulus + `","e":"` + modulus +
			`"},"attributes":{"enabled":true,"created":-1}}`,
		`{"key":{` + kid +
			`,"kty":"EC-HSM","crv":"P-256","x":"AA","y":"AA","key_ops":[null]},` +
			`"attributes":{"enabled":false,"created":0},"tags":{"a":null}}`,
		`{"key":{"kid":"https://evil.example/keys/` + fuzzKey + `/` + fuzzVersion +
			`"},"attributes":{"created":99999999999999999}}`,
		`{"key":null,"attributes":null}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		p := &played{t: t, challenge: goodSignIn, script: func(int) (int, []byte) { return http.StatusOK, body }}
		v, err := p.client().Newest(onceOnly(t.Context()), fuzzKey)
		wantOwnError(t, err)
		if err != nil {
			return
		}
		if _, err := key.ParseID(v.ID); err != nil || v.Kty == "" {
			t.Errorf("trusted %+v", v)
		}
		switch v.Material.State() {
		case key.Known:
			wantUsable(t, v.Material)
		case key.Unsupported:
			if v.Kty == "RSA" || v.Kty == "RSA-HSM" {
				t.Errorf("the material of a key of type %s is not read", v.Kty)
			}
		default:
			t.Errorf("a key was shown, and its material is %q", v.Material.State())
		}
	})
}

// Whatever a listing's first page contains, keyd sends the token only to the vault, and accepts only an ordered
// listing that names each version once.
func FuzzListing(f *testing.F) {
	const item = `{"kid":"https://` + fuzzHost + `/keys/` + fuzzKey + `/` + fuzzVersion +
		`","attributes":{"enabled":true,"created":1700000000},"tags":{"keyd-attempt":"x"}}`
	for _, seed := range []string{
		`{"value":[` + item + `],"nextLink":null}`,
		`{"value":[` + item + `,` + item + `],"nextLink":"https://evil.example/keys"}`,
		`{"value":[],"nextLink":"https://` + fuzzHost + `/keys/` + fuzzKey + `/versions?page=2"}`,
		`{"value":[],"nextLink":"https://` + fuzzHost + `@evil.example/"}`,
		`{"value":[],"nextLink":"//evil.example/"}`,
		`{"value":[],"nextLink":"%zz"}`,
		`{"value":[null]}`,
		`{"value":[{"kid":"https://` + fuzzHost + `/keys/` + fuzzKey +
			`/1","attributes":{"enabled":true,"created":1e30}}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, first []byte) {
		p := &played{t: t, challenge: goodSignIn, script: func(n int) (int, []byte) {
			if n == 0 {
				return http.StatusOK, first
			}
			return http.StatusOK, []byte(`{"value":[]}`)
		}}
		got, err := p.client().Versions(onceOnly(t.Context()), fuzzKey)
		wantOwnError(t, err)
		if err != nil && got != nil {
			t.Errorf("an error and %d versions", len(got))
		}
		seen := map[string]bool{}
		for _, v := range got {
			if _, err := key.ParseID(v.ID); err != nil || seen[v.ID] {
				t.Errorf("trusted version %q", v.ID)
			}
			seen[v.ID] = true
		}
		if !slices.IsSortedFunc(got, func(a, b key.Version) int { return a.Created.Compare(b.Created) }) {
			t.Error("not in order of time")
		}
	})
}

// Whatever an error answer contains, its text is safe for a log, and only the vault's own error code means "there is
// no such key".
func FuzzErrorAnswer(f *testing.F) {
	f.Add(403, []byte(`{"error":{"code":"Forbidden","message":"no","innererror":{"code":"ForbiddenByRbac"}}}`))
	f.Add(404, []byte(`{"error":{"code":"KeyNotFound","message":"a\r\nlevel=error\u001b[2J"}}`))
	f.Add(404, []byte(`<html>not here</html>`))
	f.Add(409, []byte(`{"error":{"code":"Conflict","innererror":{"code":"ObjectIsDeletedButRecoverable"}}}`))
	f.Add(418, []byte(`{"error":"x"}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if status < 300 || status > 599 || status == http.StatusUnauthorized {
			return
		}
		p := &played{t: t, challenge: goodSignIn, script: func(int) (int, []byte) { return status, body }}
		_, err := p.client().Newest(onceOnly(t.Context()), fuzzKey)
		wantOwnError(t, err)
		if err == nil {
			t.Fatalf("status %d is no error", status)
		}
		if IsNotFound(err) && (status != http.StatusNotFound || !json.Valid(body)) {
			t.Errorf("HTTP %d with %q counts as not found", status, body)
		}
	})
}

// Whatever a challenge asks for, the real SDK does not panic, and no token goes to another host.
func FuzzChallenge(f *testing.F) {
	f.Add(goodSignIn)
	f.Add(`Bearer authorization="https://login.microsoftonline.com", resource="https://vault.azure.net"`)
	f.Add(`Bearer authorization="https://login.microsoftonline.com/t", resource="https://graph.microsoft.com"`)
	f.Add(`Bearer authorization="https://evil.example/t", scope="https://vault.azure.net/.default"`)
	f.Add(`Bearer claims="e30=", error="insufficient_claims"`)
	f.Add(`Bearer authorization=,resource=`)
	f.Add("")
	f.Fuzz(func(t *testing.T, challenge string) {
		p := &played{
			t:         t,
			challenge: challenge,
			script:    func(int) (int, []byte) { return http.StatusOK, []byte(`{"value":[]}`) },
		}
		_, err := p.client().Versions(onceOnly(t.Context()), fuzzKey)
		wantOwnError(t, err)
	})
}

// This test bypasses the SDK's decoding, so that it tries every combination of fields, even those that no JSON
// produces.
func FuzzPublicKey(f *testing.F) {
	f.Add([]byte{1}, []byte{1})
	f.Add(make([]byte, 256), []byte{1, 0, 1})
	f.Add([]byte(strings.Repeat("\xff", 256)), []byte{1, 0, 1})
	f.Add([]byte(strings.Repeat("\xff", 256)), []byte(strings.Repeat("\xff", 256)))
	f.Add([]byte("\x00"+strings.Repeat("\xff", 512)), []byte{0, 0, 0, 0, 0, 0, 0, 3})
	f.Fuzz(func(t *testing.T, n, e []byte) {
		m, err := material(&azkeys.JSONWebKey{Kty: to.Ptr(azkeys.KeyTypeRSAHSM), N: n, E: e})
		if err == nil {
			wantUsable(t, m)
		}
	})
}

// wantUsable requires a strong RSA key that its fingerprint can pin.
func wantUsable(t *testing.T, m key.Material) {
	t.Helper()
	pub, ok := m.RSA()
	if !ok {
		t.Fatalf("the material is %q, family %q", m.State(), m.Family())
	}
	if bits := pub.N.BitLen(); bits < 2048 || bits > 4096 || pub.E < 3 || pub.E%2 == 0 {
		t.Errorf("took a modulus of %d bits and exponent %d", bits, pub.E)
	}
	if print, err := key.ParseFingerprint(string(m.Fingerprint())); err != nil || m.Matches(print) != key.MatchYes {
		t.Errorf("a public key without fingerprint: %v", err)
	}
}
