package vault_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/vault"
)

const versionID = "0123456789abcdef0123456789abcdef"

// bundle is a good answer to a GET of a KEK, with changes.
func bundle(t *testing.T, change func(map[string]any)) string {
	t.Helper()
	b := map[string]any{
		"key": map[string]any{
			"kid": "https://" + premiumHost + "/keys/" + kekName + "/" + versionID,
			"kty": "RSA-HSM", "key_ops": []string{"import"},
			"n": base64.RawURLEncoding.EncodeToString(material().N.Bytes()), "e": "AQAB",
		},
		"attributes": map[string]any{"enabled": true, "created": 1700000000},
	}
	change(b)
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestSenselessAnswersAreNotTrusted(t *testing.T) {
	t.Parallel()
	set := func(name string, value any) func(map[string]any) {
		return func(b map[string]any) { b["key"].(map[string]any)[name] = value }
	}
	if _, _, err := says(bundle(t, func(map[string]any) {})).client(t).KEK(t.Context(), ""); err != nil {
		t.Fatalf("the unchanged answer: %v", err)
	}
	for name, c := range map[string]struct{ body, want string }{
		"not JSON":        {`<html>`, "unmarshalling"},
		"nothing":         {``, "it has no key"},
		"an empty object": {`{}`, "it has no key"},
		"no kid":          {bundle(t, set("kid", nil)), "no key id"},
		"another host": {bundle(t, set("kid", "https://evil.vault.azure.net/keys/"+kekName+"/"+versionID)),
			"not a version of"},
		"another key": {bundle(t, set("kid", "https://"+premiumHost+"/keys/other/"+versionID)),
			"not a version of"},
		"a strange version": {bundle(t, set("kid", "https://"+premiumHost+"/keys/"+kekName+"/v1")),
			"32 lower-case hex digits"},
		"no modulus":       {bundle(t, set("n", nil)), "modulus has 0 bits"},
		"no exponent":      {bundle(t, set("e", nil)), "exponent"},
		"an even exponent": {bundle(t, set("e", "AQAA")), "exponent"},
		"no kty":           {bundle(t, set("kty", nil)), "no kty"},
		"no attributes":    {bundle(t, func(b map[string]any) { delete(b, "attributes") }), "lacks its attributes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := says(c.body).client(t).KEK(t.Context(), "")
			wantClass(t, err, key.Retry, c.want)
		})
	}
}

func TestASenselessListingIsAnErrorAndNotEmpty(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status     int
		body, want string
	}{
		"nothing":         {200, ``, "no list"},
		"an empty object": {200, `{}`, "no list"},
		"a null list":     {200, `{"value":null,"nextLink":null}`, "no list"},
		"a null entry":    {200, `{"value":[null]}`, "empty entry"},
		"half an answer":  {200, `{"value":[{"kid":`, "unmarshalling"},
		"a proxy's 404":   {404, `<html>not found</html>`, "is a proxy answering"},
		"a bodyless 404":  {404, ``, "is a proxy answering"},
		"a redirect":      {302, ``, "HTTP 302"},
		"a strange version": {200,
			`{"value":[{"kid":"https://` + premiumHost + `/keys/` + keyName +
				`/1","attributes":{"enabled":true,"created":1}}]}`, "32 lower-case hex digits"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := staged(func(r *http.Request) (*http.Response, error) {
				return answer(r, c.status, c.body), nil
			}).client(t).Versions(t.Context(), keyName)
			if got != nil || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, %v; want an error with %q", got, err, c.want)
			}
			if vault.IsNotFound(err) {
				t.Error("it counts as the vault's own not found")
			}
		})
	}
}

func TestAKeyThatGoesAwayWhileItIsListedIsAnError(t *testing.T) {
	t.Parallel()
	c := staged(func(r *http.Request) (*http.Response, error) {
		if r.URL.Query().Has("page") {
			return answer(r, http.StatusNotFound, `{"error":{"code":"KeyNotFound"}}`), nil
		}
		return answer(
			r,
			http.StatusOK,
			`{"value":[],"nextLink":"https://`+premiumHost+`/keys/x/versions?page=2"}`,
		), nil
	}).client(t)
	_, err := c.Versions(t.Context(), keyName)
	wantClass(t, err, key.Retry, "went away while it was listed")
}

func TestATokenNeverFollowsANextLinkElsewhere(t *testing.T) {
	t.Parallel()
	for _, link := range []string{
		"https://evil.example/keys", "http://" + premiumHost + "/keys", "https://" + premiumHost + ":8443/keys",
		"https://evil." + premiumHost + "/keys", "https://" + premiumHost + "./keys",
		"https://" + premiumHost + ".:443/keys",
		"https://user@" + premiumHost + ":443/keys", "https://" + premiumHost + ":443@evil.example/keys",
		"http://" + premiumHost + ":443/keys", "https://" + premiumHost + ":80/keys",
		"https://contoso-neu.vault.azure.net:443/keys",
	} {
		t.Run(link, func(t *testing.T) {
			t.Parallel()
			requests := 0
			c := staged(func(r *http.Request) (*http.Response, error) {
				if requests++; r.URL.Scheme != "https" || r.URL.Host != premiumHost {
					t.Errorf("a request with a token went to %s", r.URL)
				}
				return answer(r, http.StatusOK, fmt.Sprintf(`{"value":[],"nextLink":%q}`, link)), nil
			}).client(t)
			_, err := c.Versions(t.Context(), keyName)
			wantClass(t, err, key.Retry, "sends keyd on to")
			if requests != 1 {
				t.Errorf("%d requests", requests)
			}
		})
	}
}

func TestKeydGivesUpAnEndlessListing(t *testing.T) {
	t.Parallel()
	c := staged(func(r *http.Request) (*http.Response, error) {
		var items []string
		page := r.URL.Query().Get("page")
		for i := range 5000 {
			items = append(items, fmt.Sprintf(
				`{"kid":"https://%s/keys/%s/%016d%016d","attributes":{"enabled":true,"created":1}}`,
				premiumHost,
				keyName,
				len(page),
				i,
			))
		}
		return answer(r, http.StatusOK, fmt.Sprintf(`{"value":[%s],"nextLink":"https://%s/keys/x?page=%sx"}`,
			strings.Join(items, ","), premiumHost, page)), nil
	}).client(t)
	_, err := c.Versions(t.Context(), keyName)
	wantClass(t, err, key.Retry, "does not end")
}

func TestAnEndlessBodyIsCutOff(t *testing.T) {
	t.Parallel()
	var body countingReader
	c := staged(func(r *http.Request) (*http.Response, error) {
		resp := answer(r, http.StatusOK, "")
		resp.Body = io.NopCloser(&body)
		return resp, nil
	}).client(t)
	_, err := c.Newest(t.Context(), keyName)
	wantClass(t, err, key.Retry, "longer than 4 MiB")
	if body > 5<<20 {
		t.Errorf("%d bytes were read", body)
	}
}

// countingReader has far more to give than anyone should take.
type countingReader int64

func (r *countingReader) Read(p []byte) (int, error) {
	if *r > 64<<20 {
		return 0, io.EOF
	}
	for i := range p {
		p[i] = ' '
	}
	*r += countingReader(len(p))
	return len(p), nil
}

func TestAChallengeThatNamesNoTenantIsAnErrorAndNotACrash(t *testing.T) {
	t.Parallel()
	for _, header := range []string{
		`Bearer authorization="https://login.microsoftonline.com", resource="https://vault.azure.net"`,
		`Bearer authorization="nonsense", resource="https://vault.azure.net"`,
		`Bearer resource="https://vault.azure.net" authorization=x`,
	} {
		c := newClient(t, func(r *http.Request) (*http.Response, error) {
			resp := answer(r, http.StatusUnauthorized, "")
			resp.Header.Set("WWW-Authenticate", header)
			return resp, nil
		})
		_, err := c.Newest(t.Context(), keyName)
		wantClass(t, err, key.Retry, "names no tenant")
	}
}

func TestAChallengeForAnotherServiceGetsNoToken(t *testing.T) {
	t.Parallel()
	c := newClient(t, func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("Authorization") != "" {
			t.Error("a token was sent")
		}
		resp := answer(r, http.StatusUnauthorized, "")
		resp.Header.Set(
			"WWW-Authenticate",
			`Bearer authorization="https://login.microsoftonline.com/t", resource="https://graph.microsoft.com"`,
		)
		return resp, nil
	})
	if _, err := c.Newest(t.Context(), keyName); err == nil {
		t.Error("no error")
	}
}

// newClient is for a transport that also stages the sign-in.
func newClient(t *testing.T, transport transporter) *vault.Client {
	t.Helper()
	c, err := vault.New(vault.Config{Vault: profiles()[0], KEKName: kekName}, fixedToken{}, transport, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type transporter func(*http.Request) (*http.Response, error)

func (f transporter) Do(r *http.Request) (*http.Response, error) { return f(r) }

func TestAnotherVersionsResultIsNotAccepted(t *testing.T) {
	t.Parallel()
	other := strings.Repeat("f", 32)
	c := says(`{"kid":"https://` + premiumHost + `/keys/` + keyName + `/` + other + `","value":"AAAA"}`).client(t)
	_, err := c.Unwrap(t.Context(), keyName, versionID, []byte("x"))
	wantClass(t, err, key.Retry, "version "+other+" did it")
}

func TestStoppingKeepsItsCause(t *testing.T) {
	t.Parallel()
	cause := errors.New("keyd is stopping")
	ctx, cancel := context.WithCancelCause(t.Context())
	c := staged(func(r *http.Request) (*http.Response, error) {
		cancel(cause)
		<-r.Context().Done()
		return nil, r.Context().Err()
	}).client(t)
	_, err := c.Newest(ctx, keyName)
	if !errors.Is(err, cause) || !key.IsCancelled(err) {
		t.Errorf("got %v", err)
	}
	wantClass(t, err, key.Retry, "keyd is stopping")
}

func TestNewRefusesAURLThatCannotBeAVault(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "contoso", "http://" + premiumHost, "https://" + premiumHost + "/",
		"https://Contoso.vault.azure.net", "https://u@" + premiumHost} {
		_, err := vault.New(
			vault.Config{Vault: key.Vault{Name: "v", URL: url}, KEKName: kekName},
			fixedToken{},
			says(""),
			nil,
			nil,
		)
		if err == nil {
			t.Errorf("%q was accepted", url)
		}
	}
}
