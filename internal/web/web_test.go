package web

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/docs"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// world is what the daemon reports to the listener.
type world struct {
	snapshot status.Snapshot
	stuck    string
	unready  string
}

func (w *world) config(t *testing.T) Config {
	t.Helper()
	reg := prometheus.NewRegistry()
	up := prometheus.NewGauge(prometheus.GaugeOpts{Name: "keyd_hsm_up", Help: "1 while the HSM answers."})
	reg.MustRegister(up)
	return Config{
		Listen:   "127.0.0.1:0",
		Registry: reg,
		Snapshot: func(sel status.Selection) status.Snapshot { return selected(w.snapshot, sel) },
		Ready:    func() (bool, string) { return w.unready == "", w.unready },
		Stuck:    func() string { return w.stuck },
	}
}

// serve starts a listener that ends with the test, and returns its address.
func serve(t *testing.T, c Config) string {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return run(t, s)
}

// run serves until the test ends, at the address that it returns.
func run(t *testing.T, s *Server) (addr string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s.Addr().String()
}

type answer struct {
	code   int
	header http.Header
	body   string
}

func ask(t *testing.T, method, addr, path string, change func(*http.Request)) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return do(t, client, r)
}

func do(t *testing.T, client *http.Client, r *http.Request) answer {
	t.Helper()
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

func TestMetricsAreServedFromTheRegistry(t *testing.T) {
	a := ask(t, "GET", serve(t, (&world{}).config(t)), "/metrics", nil)
	if a.code != http.StatusOK || !strings.Contains(a.body, "keyd_hsm_up 0") {
		t.Errorf("%d %s", a.code, a.body)
	}
}

func TestHealthzIsOKWhileEverythingTurns(t *testing.T) {
	a := ask(t, "GET", serve(t, (&world{}).config(t)), "/healthz", nil)
	if a.code != http.StatusOK || a.body != "ok\n" {
		t.Errorf("%d %q", a.code, a.body)
	}
}

func TestHealthzNamesTheStuckLoop(t *testing.T) {
	w := &world{stuck: "key sa-cmk-key"}
	a := ask(t, "GET", serve(t, w.config(t)), "/healthz", nil)
	if a.code != http.StatusServiceUnavailable || !strings.Contains(a.body, w.stuck) {
		t.Errorf("%d %q", a.code, a.body)
	}
}

func TestReadyzGivesTheReason(t *testing.T) {
	w := &world{unready: "no look has been completed"}
	addr := serve(t, w.config(t))
	if a := ask(t, "GET", addr, "/readyz", nil); a.code != http.StatusServiceUnavailable ||
		!strings.Contains(a.body, w.unready) {
		t.Errorf("%d %q", a.code, a.body)
	}
}

func TestTroubleWithAKeyIsNotReadiness(t *testing.T) {
	w := &world{snapshot: status.Snapshot{Problems: []status.Problem{{Severity: status.Critical,
		Text: "a key does not unwrap"}}}}
	if a := ask(t, "GET", serve(t, w.config(t)), "/readyz", nil); a.code != http.StatusOK {
		t.Errorf("%d %q", a.code, a.body)
	}
}

func TestOnlyGetAndHeadAreAnswered(t *testing.T) {
	addr := serve(t, (&world{}).config(t))
	for _, path := range []string{"/", "/metrics", "/healthz", "/readyz", "/runbooks", "/style.css", "/live.js",
		"/icon.svg", "/events"} {
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			if a := ask(t, method, addr, path, nil); a.code != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d", method, path, a.code)
			}
		}
		if a := ask(t, "HEAD", addr, path, nil); a.code != http.StatusOK || a.body != "" {
			t.Errorf("HEAD %s: %d %q", path, a.code, a.body)
		}
	}
	if a := ask(t, "GET", addr, "/debug/pprof/", nil); a.code != http.StatusNotFound {
		t.Errorf("GET /debug/pprof/: %d", a.code)
	}
}

func TestEveryAnswerForbidsForeignAndInlineScriptsAndFrames(t *testing.T) {
	addr := serve(t, (&world{}).config(t))
	for _, path := range []string{"/", "/metrics", "/healthz", "/runbooks", "/live.js", "/nothing-here",
		"/keys/nothing-here"} {
		h := ask(t, "GET", addr, path, nil).header
		if csp := h.Get("Content-Security-Policy"); csp != policy || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: Content-Security-Policy %q", path, csp)
		}
		if h.Get("Referrer-Policy") != "no-referrer" || h.Get("Cross-Origin-Opener-Policy") != "same-origin" {
			t.Errorf("%s: %v", path, h)
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" ||
			h.Get("Content-Type") == "" {
			t.Errorf("%s: %v", path, h)
		}
	}
}

func TestARebindingNameIsRefusedOnLoopback(t *testing.T) {
	addr := serve(t, (&world{}).config(t))
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]int{
		"localhost:" + port:        http.StatusOK,
		"LOCALHOST":                http.StatusOK,
		"127.0.0.1:" + port:        http.StatusOK,
		"[::1]:" + port:            http.StatusOK,
		"[::1]":                    http.StatusOK,
		"attacker.example:" + port: http.StatusMisdirectedRequest,
		"localhost.attacker.test":  http.StatusMisdirectedRequest,
		"192.0.2.1":                http.StatusMisdirectedRequest,
	} {
		a := ask(t, "GET", addr, "/metrics", func(r *http.Request) { r.Host = host })
		if a.code != want {
			t.Errorf("Host %s: %d, want %d", host, a.code, want)
		}
	}
}

func TestTheConfiguredNameIsAnswered(t *testing.T) {
	if !localName("keyd.internal:9889", "keyd.internal") || localName("", "") {
		t.Error("the configured name is the only one besides localhost")
	}
}

func hostile() status.Snapshot {
	const evil = `<script>alert(1)</script>"'`
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return status.Snapshot{
		Version: evil, Instance: evil, At: now, Started: now,
		Problems: []status.Problem{{Severity: status.Critical, Key: evil, Vault: evil, Text: evil, Remedy: evil,
			Runbook: `" onclick="alert(1)`}},
		HSM: status.HSM{Error: evil, Info: key.HSMInfo{Model: evil, Degraded: evil, Warnings: []string{evil}}},
		Vaults: []status.Vault{{Vault: key.Vault{Name: evil, URL: "javascript:alert(1)"}, Error: evil, KEK: evil,
			KEKTrust: evil}},
		Keys: []status.Key{{Name: evil, State: evil, Schedule: evil, Error: evil, Waiting: evil, Doing: evil,
			Hold: &key.Hold{Code: key.HoldForeign, Reason: evil, By: evil},
			Generations: []status.Generation{{Number: 1, Requester: evil, Fingerprint: evil,
				Placements: []status.Placement{{VaultName: evil, Version: evil, State: evil}}}},
			Proofs: []status.Proof{{Newest: true, Vault: evil, Version: evil, Leg: evil,
				Outcome: key.Inconclusive}}}},
	}
}

func TestHostileNamesAndErrorsAreEscaped(t *testing.T) {
	w := &world{snapshot: hostile()}
	a := ask(t, "GET", serve(t, w.config(t)), "/", nil)
	if a.code != http.StatusOK {
		t.Fatalf("%d %s", a.code, a.body)
	}
	body := strings.Replace(a.body, `<script src="/live.js" defer></script>`, "", 1)
	for _, bad := range []string{"<script", `" onclick`, `href="javascript:`} {
		if strings.Contains(body, bad) {
			t.Errorf("the page has %q:\n%s", bad, a.body)
		}
	}
}

func TestTheStatusPageShowsProblemsFirst(t *testing.T) {
	w := &world{snapshot: status.Snapshot{
		Instance: "hq-1", Ready: true,
		Problems: []status.Problem{{Severity: status.Critical, Key: "sa-cmk-key", Text: "deleted",
			Runbook: "keydkeydeleted"}},
		Vaults: []status.Vault{{Vault: key.Vault{Name: "contoso-weu"}, Reachable: true}},
		Keys:   []status.Key{{Name: "sa-cmk-key", State: status.StateHeld}},
	}}
	body := ask(t, "GET", serve(t, w.config(t)), "/", nil).body
	last := -1
	for _, part := range []string{`href="/runbooks#keydkeydeleted"`, `id="now"`, `id="keys"`, "sa-cmk-key</a></h3>",
		`id="vaults"`, "contoso-weu", `id="audit"`} {
		i := strings.Index(body, part)
		if i <= last {
			t.Fatalf("%s is missing or out of place:\n%s", part, body)
		}
		last = i
	}
}

func TestRunbooksHaveASectionForEveryHold(t *testing.T) {
	body := ask(t, "GET", serve(t, (&world{}).config(t)), "/runbooks", nil).body
	for _, code := range []key.HoldCode{key.HoldPaused, key.HoldForeign, key.HoldNameTaken, key.HoldVersionsMissing,
		key.HoldKeyDeleted, key.HoldRefuted, key.HoldRecordBehind, key.HoldObjectMissing, key.HoldAdopted} {
		if !strings.Contains(body, `<section id="hold-`+string(code)+`">`) {
			t.Errorf("no section for hold %s", code)
		}
	}
	if strings.Count(body, "<section") != len(sections(docs.Runbooks)) {
		t.Error("a section is missing")
	}
}

func TestSectionsAreCutAtHeadingsOutsideFences(t *testing.T) {
	got := sections("lost\n# One: a\nx\n```\n# a comment\n```\n## Two\n#no-heading\n## Two\n")
	want := []section{
		{"one-a", "One: a", 1, "x\n```\n# a comment\n```"},
		{"two", "Two", 2, "#no-heading"},
		{"two-1", "Two", 2, ""},
	}
	if len(got) != len(want) {
		t.Fatalf("sections %+v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("section %d is %+v, want %+v", i, got[i], want[i])
		}
	}
}

func FuzzSections(f *testing.F) {
	f.Add(docs.Runbooks)
	f.Add("# \n####### x\n```")
	f.Fuzz(func(t *testing.T, text string) {
		for _, s := range sections(text) {
			if s.Level < 1 || s.Level > 6 || strings.ContainsAny(s.Anchor, " \"<>&") {
				t.Fatalf("section %+v", s)
			}
		}
	})
}

func TestTheErrorForATakenAddressSaysWhatToDo(t *testing.T) {
	c := (&world{}).config(t)
	c.Listen = serve(t, c)
	_, err := New(c)
	if err == nil || !strings.Contains(err.Error(), c.Listen) || !strings.Contains(err.Error(), "web.listen") {
		t.Errorf("error %v", err)
	}
}

func TestAWrongWebConfigurationIsRefusedBeforeListening(t *testing.T) {
	c := (&world{}).config(t)
	c.WebConfigFile = filepath.Join(t.TempDir(), "web.yaml")
	write(t, c.WebConfigFile, "tls_server_confg: {}\n")
	if _, err := New(c); err == nil || !strings.Contains(err.Error(), c.WebConfigFile) {
		t.Errorf("error %v", err)
	}
}

func TestTheWebConfigurationGivesTLSAndPasswords(t *testing.T) {
	dir := t.TempDir()
	pool := certificate(t, dir)
	c := (&world{}).config(t)
	c.WebConfigFile = filepath.Join(dir, "web.yaml")
	write(t, c.WebConfigFile, "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n"+
		"basic_auth_users: {prometheus: \""+scrapeHash+"\"}\n")
	addr := serve(t, c)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{RootCAs: pool}}}
	request := func(password string) answer {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+addr+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("prometheus", password)
		return do(t, client, r)
	}
	if a := request("scrape"); a.code != http.StatusOK || !strings.Contains(a.body, "keyd_hsm_up") {
		t.Errorf("%d %s", a.code, a.body)
	}
	if a := request("wrong"); a.code != http.StatusUnauthorized {
		t.Errorf("a wrong password: %d", a.code)
	}
}

func TestServeEndsAlthoughAnAnswerHangs(t *testing.T) {
	c := (&world{}).config(t)
	begun, release := make(chan struct{}), make(chan struct{})
	c.Stuck = func() string {
		close(begun)
		<-release
		return ""
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-begun
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Serve: %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("Serve goes on")
	}
	close(release)
	if _, err := bufio.NewReader(conn).ReadByte(); err == nil {
		t.Error("the connection was left open")
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// scrapeHash is the bcrypt hash of "scrape".
const scrapeHash = "$2a$04$OPzQaLKncBgYmTGEuTd9SuW7Yc4VteLaQfDNv0j2P3G/4EFFb5aQ2"

// certificate writes cert.pem and key.pem for 127.0.0.1.
func certificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	pair, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &pair.PublicKey, pair)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(pair)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	write(t, filepath.Join(dir, "cert.pem"), string(cert))
	write(t, filepath.Join(dir, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return pool
}
