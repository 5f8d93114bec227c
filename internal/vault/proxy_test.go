package vault_test

import (
	"crypto/rand"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/vault"
)

// refusals are a proxy's answers to CONNECT, each with what the error must say.
func refusals() map[string]struct {
	answer string
	says   []string
} {
	status := func(line string, headers ...string) string {
		return "HTTP/1.1 " + line + "\r\n" + strings.Join(
			append(headers, "Content-Length: 0", "Connection: close"),
			"\r\n",
		) + "\r\n\r\n"
	}
	type refusal = struct {
		answer string
		says   []string
	}
	return map[string]refusal{
		"407": {status("407 Proxy Authentication Required", `Proxy-Authenticate: Basic realm="corp"`),
			[]string{
				"the proxy 127.0.0.1:",
				"refused to connect to " + premiumHost + ": 407",
				"wants a user and a password",
				"NO_PROXY",
			}},
		"407 without Basic": {
			status("407 Proxy Authentication Required", "Proxy-Authenticate: Negotiate", "Proxy-Authenticate: NTLM"),
			[]string{": 407", "takes only Negotiate, NTLM"},
		},
		"403": {
			status("403 Forbidden"),
			[]string{": 403 Forbidden", "have the proxy allow CONNECT to " + premiumHost},
		},
		"502":                   {status("502 Bad Gateway"), []string{": 502 Bad Gateway", "does not get through"}},
		"503":                   {status("503 Service Unavailable"), []string{": 503", "keyd tries again by itself"}},
		"504":                   {status("504 Gateway Timeout"), []string{": 504", "keyd tries again by itself"}},
		"no answer":             {"", []string{"nothing was sent"}},
		"an answer of no sense": {"SSH-2.0-OpenSSH_9.2\r\n\r\n", []string{"nothing was sent"}},
	}
}

func TestAChangeThatTheProxyRefusesIsForLater(t *testing.T) {
	t.Parallel()
	b := newBench(t, profiles()[0], emulator.Options{})
	_, kek := b.ready(t)
	for name, c := range refusals() {
		for call, change := range map[string]func(*vault.Client) error{
			"import": func(c *vault.Client) error {
				_, err := c.Import(noRetries(t.Context()), request(t, kek, material()))
				return err
			},
			"disable": func(c *vault.Client) error { return c.Disable(noRetries(t.Context()), keyName, versionID) },
			"recover": func(c *vault.Client) error { return c.Recover(noRetries(t.Context()), keyName) },
		} {
			t.Run(call+" "+name, func(t *testing.T) {
				t.Parallel()
				g := newGate(t, b.ProxyURL())
				client, transport := b.behind(t, g)
				if _, _, err := client.KEK(t.Context(), ""); err != nil {
					t.Fatal(err)
				}
				transport.CloseIdleConnections()
				g.refuse(c.answer)
				err := change(client)
				wantClass(t, err, key.Retry, c.says...)
				if strings.Contains(err.Error(), proxyPassword) {
					t.Errorf("the proxy's password is in the error: %v", err)
				}
			})
		}
	}
	t.Cleanup(func() {
		if n := b.puts(); n != 0 {
			t.Errorf("%d imports were sent", n)
		}
	})
}

// keyd must not wait for a KEK that it did not request, as it does for one that may still appear.
func TestMakingAKEKThatTheProxyRefusesIsForLater(t *testing.T) {
	t.Parallel()
	b := newBench(t, profiles()[0], emulator.Options{})
	g := newGate(t, b.ProxyURL())
	transport := b.through(g)
	next := vault.HTTPClient(transport)
	c, err := vault.New(vault.Config{Vault: b.vault, KEKName: kekName, CreateKEK: true, KEKBits: 2048}, b.cred,
		transporter(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodPost {
				transport.CloseIdleConnections()
				g.refuse("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
			}
			return next.Do(r)
		}), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.CreateKEK(t.Context(), "", nil)
	wantClass(t, err, key.Retry, "create key exchange key", "refused to connect", "403 Forbidden")
	if got := key.ReasonOf(err); got != key.ProxyRefused {
		t.Errorf("reason %s", got)
	}
}

func TestASignInRefusedByTheProxyNamesTheProxy(t *testing.T) {
	t.Parallel()
	cfg := vault.CredentialConfig{
		Kind: vault.ClientCertificate, TenantID: emulator.DefaultTenantID, ClientID: rand.Text(),
		CertificateFile: clientCertificate(t),
	}
	b := newBench(t, profiles()[0], emulator.Options{Certificates: []emulator.ClientCertificate{registered(t, cfg)}})
	g := newGate(t, b.ProxyURL())
	g.refuse("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
	cred, err := vault.NewCredential(cfg, vault.HTTPClient(b.through(g)))
	if err != nil {
		t.Fatal(err)
	}
	b.cred = cred
	_, err = b.client(t).Versions(noRetries(t.Context()), keyName)
	wantClass(
		t,
		err,
		key.Retry,
		"no token",
		"refused to connect to "+entra+": 403",
		"have the proxy allow CONNECT to "+entra,
	)
	if got := key.ReasonOf(err); got != key.ProxyRefused {
		t.Errorf("reason %s", got)
	}
}

func TestAnImportThatTheProxyKeepsWaitingIsForLater(t *testing.T) {
	t.Parallel()
	b := newBench(t, profiles()[0], emulator.Options{})
	_, kek := b.ready(t)
	g := newGate(t, b.ProxyURL())
	transport := b.through(g)
	c, err := vault.New(
		vault.Config{Vault: b.vault, KEKName: kekName, RequestTimeout: 10 * time.Second},
		b.cred,
		vault.HTTPClient(transport),
		nil,
		nil,
	)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.KEK(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	transport.CloseIdleConnections()
	g.refuse(never)
	_, err = c.Import(t.Context(), request(t, kek, material()))
	wantClass(t, err, key.Retry, "deadline exceeded")
	if n := b.puts(); n != 0 {
		t.Errorf("%d imports were sent", n)
	}
}
