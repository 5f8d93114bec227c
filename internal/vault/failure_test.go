package vault_test

import (
	"context"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/vault"
)

func TestAnImportWhoseAnswerIsUnclearIsAmbiguousAndSentOnce(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rule emulator.Rule
		made int
	}{
		"connection lost before":  {emulator.Rule{Drop: emulator.DropBeforeCommit}, 0},
		"connection lost after":   {emulator.Rule{Drop: emulator.DropAfterCommit}, 1},
		"answer cut off":          {emulator.Rule{Truncate: true}, 1},
		"answer that is not JSON": {emulator.Rule{Garbage: true}, 1},
		"500":                     {emulator.Rule{Status: http.StatusInternalServerError}, 0},
		"503":                     {emulator.Rule{Status: http.StatusServiceUnavailable}, 0},
		"408":                     {emulator.Rule{Status: http.StatusRequestTimeout}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			eachProfile(t, func(t *testing.T, b *bench) {
				client, kek := b.ready(t)
				rule := c.rule
				rule.Operation = "import"
				b.Fail(rule)
				_, err := client.Import(t.Context(), request(t, kek, material()))
				wantClass(t, err, key.Ambiguous, "import key "+keyName, b.vault.Name)
				if n := b.puts(); n != 1 {
					t.Errorf("%d imports were sent", n)
				}
				if n := len(b.inside.Versions(keyName)); n != c.made {
					t.Errorf("%d versions were made, want %d", n, c.made)
				}
			})
		})
	}
}

func TestAnImportThatOutlivesItsTimeIsAmbiguous(t *testing.T) {
	t.Parallel()
	b := newBench(t, profiles()[0], emulator.Options{})
	b.ready(t)
	// Enough for a busy machine to send the import: of one that was not sent it is certain that it did not happen.
	c, kek := b.ready(t, func(cfg *vault.Config) { cfg.RequestTimeout = 10 * time.Second })
	b.Fail(emulator.Rule{Operation: "import", Delay: time.Minute})
	_, err := c.Import(t.Context(), request(t, kek, material()))
	wantClass(t, err, key.Ambiguous, "deadline exceeded")
}

func TestARefusedImportCertainlyDidNotHappen(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rule  emulator.Rule
		class key.Class
		want  string
	}{
		"400": {emulator.Rule{Status: 400}, key.Refused, "BadParameter"},
		"401": {emulator.Rule{Status: 401}, key.Refused, "did not accept the token"},
		"403": {emulator.Rule{Status: 403}, key.Refused, "keyd keeps trying"},
		"404": {emulator.Rule{Status: 404}, key.Refused, "KeyNotFound"},
		"409 deleted": {
			emulator.Rule{Status: 409, Inner: "ObjectIsDeletedButRecoverable"}, key.Refused, "az keyvault key recover",
		},
		"409 being deleted":   {emulator.Rule{Status: 409, Inner: "ObjectIsBeingDeleted"}, key.Retry, "being deleted"},
		"429":                 {emulator.Rule{Status: 429}, key.Retry, "Throttled"},
		"429 without a pause": {emulator.Rule{Status: 429, NoRetryAfter: true}, key.Retry, "Throttled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, profiles()[0], emulator.Options{})
			client, kek := b.ready(t)
			c.rule.Operation = "import"
			b.Fail(c.rule)
			_, err := client.Import(t.Context(), request(t, kek, material()))
			e := wantClass(t, err, c.class, c.want)
			if e.Status != c.rule.Status || b.inside.Versions(keyName) != nil {
				t.Errorf("status %d; the vault has %v", e.Status, b.inside.Versions(keyName))
			}
		})
	}
}

func TestTheInnerCodeOfA403DecidesTheRemedy(t *testing.T) {
	t.Parallel()
	for inner, want := range map[string]string{
		"ForbiddenByRbac":       `the role "Key Vault Crypto Officer"`,
		"ForbiddenByPolicy":     "access policies",
		"ForbiddenByFirewall":   "firewall",
		"KeyOperationForbidden": "key_ops",
		"KeyDisabled":           "--vault-name contoso-weu --name " + keyName + " --enabled true",
	} {
		t.Run(inner, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, profiles()[0], emulator.Options{})
			b.Fail(emulator.Rule{Status: http.StatusForbidden, Inner: inner, Message: "Caller is\nnot authorized."})
			_, err := b.client(t).Newest(t.Context(), keyName)
			e := wantClass(t, err, key.Refused, "403 Forbidden ("+inner+"): Caller is not authorized.", want)
			if e.Inner != inner || e.Vault != "contoso-weu" || e.Key != keyName {
				t.Errorf("got %+v", e)
			}
		})
	}
	t.Run("roles of a Managed HSM", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, profiles()[1], emulator.Options{})
		b.Fail(emulator.Rule{Status: http.StatusForbidden, Inner: "ForbiddenByRbac"})
		_, err := b.client(t).Newest(t.Context(), keyName)
		wantClass(t, err, key.Refused, `the role "Managed HSM Crypto User"`)
		wantClass(t, b.client(t).Recover(t.Context(), keyName), key.Refused, `the role "Managed HSM Crypto Officer"`)
	})
}

func TestAThrottledReadIsTriedAgain(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]emulator.Rule{
		"with Retry-After":    {Status: 429, Count: 1, RetryAfter: time.Second},
		"without Retry-After": {Status: 429, Count: 1, NoRetryAfter: true},
		"500":                 {Status: 500, Count: 1},
		"connection lost":     {Drop: emulator.DropBeforeCommit, Count: 1},
		"answer cut off":      {Truncate: true, Count: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, profiles()[0], emulator.Options{})
			c, _ := b.ready(t)
			rule.Operation = "versions"
			hit := b.Fail(rule)
			if _, err := c.Versions(t.Context(), keyName); err != nil {
				t.Error(err)
			}
			if hit.Hits() != 1 {
				t.Errorf("%d calls failed", hit.Hits())
			}
		})
	}
}

func TestAReadThatKeepsFailingIsForLater(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]emulator.Rule{
		"429":               {Status: 429, NoRetryAfter: true},
		"503":               {Status: 503},
		"connection lost":   {Drop: emulator.DropBeforeCommit},
		"not JSON":          {Garbage: true},
		"an hour's penalty": {Status: 429, RetryAfter: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, profiles()[0], emulator.Options{})
			c, _ := b.ready(t)
			rule.Operation = "versions"
			b.Fail(rule)
			got, err := c.Versions(noRetries(t.Context()), keyName)
			wantClass(t, err, key.Retry)
			if got != nil {
				t.Errorf("listed %v all the same", got)
			}
		})
	}
}

func TestAFailureOnALaterPageFailsTheListing(t *testing.T) {
	t.Parallel()
	b := newBench(t, profiles()[1], emulator.Options{})
	for range 11 {
		if _, err := b.inside.AddForeignVersion(keyName); err != nil {
			t.Fatal(err)
		}
	}
	pages := 0
	c := b.interposed(
		t,
		func(r *http.Request, next func(*http.Request) (*http.Response, error)) (*http.Response, error) {
			if r.Header.Get("Authorization") == "" || !strings.HasSuffix(r.URL.Path, "/versions") {
				return next(r)
			}
			if pages++; pages > 1 {
				return answer(r, http.StatusInternalServerError, ""), nil
			}
			return next(r)
		},
	)
	got, err := c.Versions(noRetries(t.Context()), keyName)
	wantClass(t, err, key.Retry, "HTTP 500")
	if got != nil || pages != 2 {
		t.Errorf("after %d pages: %v", pages, got)
	}
}

func TestADisablingWithoutAnswerIsAmbiguous(t *testing.T) {
	t.Parallel()
	b := newBench(t, profiles()[0], emulator.Options{})
	c, kek := b.ready(t)
	v := mustImport(t, c, kek)
	b.Fail(emulator.Rule{Operation: "update", Drop: emulator.DropAfterCommit})
	wantClass(t, c.Disable(noRetries(t.Context()), keyName, v.ID), key.Ambiguous, "disable key")
}

func TestAnImportThatNeverLeftIsForLater(t *testing.T) {
	t.Parallel()
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"no route": {dial(syscall.EHOSTUNREACH), "check routes and firewalls"},
		"refused":  {dial(syscall.ECONNREFUSED), "check routes and firewalls"},
		"no such name": {
			dial(&net.DNSError{Err: "no such host", Name: premiumHost, IsNotFound: true}), "does not resolve",
		},
		"proxy unreachable": {&net.OpError{Op: "proxyconnect", Err: dial(syscall.ECONNREFUSED)}, "check HTTPS_PROXY"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, profiles()[0], emulator.Options{})
			_, kek := b.ready(t)
			client := b.interposed(
				t,
				func(r *http.Request, next func(*http.Request) (*http.Response, error)) (*http.Response, error) {
					if r.Header.Get("Authorization") != "" && r.Method == http.MethodPut {
						return nil, c.err
					}
					return next(r)
				},
			)
			_, err := client.Import(t.Context(), request(t, kek, material()))
			wantClass(t, err, key.Retry, c.want)
		})
	}
}

func TestALostImportStaysAmbiguousWhateverTheErrorIs(t *testing.T) {
	t.Parallel()
	for name, failure := range map[string]error{
		"reset while reading": &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET},
		"reset while writing": &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE},
		"deadline":            context.DeadlineExceeded,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, profiles()[0], emulator.Options{})
			_, kek := b.ready(t)
			client := b.interposed(
				t,
				func(r *http.Request, next func(*http.Request) (*http.Response, error)) (*http.Response, error) {
					if r.Header.Get("Authorization") != "" && r.Method == http.MethodPut {
						return nil, failure
					}
					return next(r)
				},
			)
			_, err := client.Import(t.Context(), request(t, kek, material()))
			wantClass(t, err, key.Ambiguous)
		})
	}
}

func TestAnImportReadBackAsSomethingElseIsAmbiguous(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ old, new, want string }{
		"kty":        {`"RSA-HSM"`, `"RSA"`, "imported as RSA instead of RSA-HSM"},
		"operations": {`"wrapKey"`, `"sign"`, "imported with operations"},
		"enabled":    {`"enabled":true`, `"enabled":false`, "imported disabled"},
		"expiry":     {`"enabled":true`, `"enabled":true,"exp":1900000000`, "imported to expire at 2030-03-17"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, profiles()[0], emulator.Options{})
			_, kek := b.ready(t)
			client := b.interposed(
				t,
				func(r *http.Request, next func(*http.Request) (*http.Response, error)) (*http.Response, error) {
					resp, err := next(r)
					if err == nil && r.Method == http.MethodPut && resp.StatusCode == http.StatusOK {
						body, err := io.ReadAll(resp.Body)
						if err != nil {
							return nil, err
						}
						return answer(r, http.StatusOK, strings.ReplaceAll(string(body), c.old, c.new)), nil
					}
					return resp, err
				},
			)
			_, err := client.Import(t.Context(), request(t, kek, material()))
			wantClass(t, err, key.Ambiguous, c.want)
		})
	}
}

func TestAnImportThatCouldOnlyFailIsNotSent(t *testing.T) {
	t.Parallel()
	b := newBench(t, profiles()[0], emulator.Options{})
	c, kek := b.ready(t)
	for name, change := range map[string]func(*key.ImportRequest){
		"no key":                 func(r *key.ImportRequest) { r.Key = "" },
		"a name no vault allows": func(r *key.ImportRequest) { r.Key = "a/b" },
		"no blob":                func(r *key.ImportRequest) { r.Blob = nil },
		"another vault's blob": func(r *key.ImportRequest) {
			r.Blob = []byte(strings.Replace(string(r.Blob), premiumHost, hsmHost, 1))
		},
		"no operations": func(r *key.ImportRequest) { r.Operations = nil },
		"a long tag":    func(r *key.ImportRequest) { r.Tags = map[string]string{"t": strings.Repeat("x", 257)} },
		"many tags": func(r *key.ImportRequest) {
			for i := range 16 {
				r.Tags[strings.Repeat("t", i+1)] = ""
			}
		},
	} {
		r := request(t, kek, material())
		change(&r)
		_, err := c.Import(t.Context(), r)
		t.Run(name, func(t *testing.T) { wantClass(t, err, key.Refused) })
	}
	if n := b.puts(); n != 0 {
		t.Errorf("%d imports were sent", n)
	}
}

func TestACertificateThatIsNotTrustedIsExplained(t *testing.T) {
	t.Parallel()
	b := newBench(t, profiles()[0], emulator.Options{})
	transport := b.Transport()
	transport.TLSClientConfig.RootCAs = x509.NewCertPool()
	c, err := vault.New(
		vault.Config{Vault: b.vault, KEKName: kekName}, fixedToken{}, vault.HTTPClient(transport), nil, nil,
	)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Newest(noRetries(t.Context()), keyName)
	wantClass(t, err, key.Retry, "azure.ca_file")
}

func TestAFailedSignInIsDistinguishedFromTheVault(t *testing.T) {
	t.Parallel()
	b := newBench(t, profiles()[0], emulator.Options{})
	b.Fail(emulator.Rule{Operation: "token", Status: http.StatusBadRequest})
	_, err := b.client(t).Import(t.Context(), request(t, foreignKEK(), material()))
	wantClass(t, err, key.Refused, "no token", "is assigned to this machine", "NO_PROXY holds 169.254.169.254")
	if n := b.puts(); n != 0 {
		t.Errorf("%d imports were sent", n)
	}
}
