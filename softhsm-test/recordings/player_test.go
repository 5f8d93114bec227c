//go:build recordings

package recordings

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
)

const (
	vaultHost = "recorded.vault.azure.net"
	hsmHost   = "recorded.managedhsm.azure.net"
	clientID  = "5c1f9c9e-3a0b-4a53-9a56-7f1b0c6f2a10"

	// settling is how long a vault takes to delete, recover and purge, by the emulator's clock. The replay moves that
	// clock to where the real service was done.
	settling = time.Hour
)

// player replays one recording against an emulator of its own.
type player struct {
	t      *testing.T
	emu    *emulator.Emulator
	by     http.RoundTripper
	ahead  atomic.Int64 // of the emulator's clock, nanoseconds
	tokens map[string]string

	// learnt maps recorded values to the emulator's: versions, ciphertexts, signatures, backups and links to next
	// pages.
	learnt map[string]string
}

type reply struct {
	status int
	header http.Header
	body   any // JSON, text, or nil
}

func newPlayer(t *testing.T, r recording) *player {
	t.Helper()
	p := &player{t: t, tokens: map[string]string{}, learnt: map[string]string{}}
	vault := emulator.VaultConfig{Host: vaultHost, RecoverableDays: 7}
	for _, c := range r.calls {
		if header(c.ResponseHeaders, "X-Ms-Keyvault-Rbac-Assignment-Id") != "" {
			vault.Access = emulator.RoleBased
			vault.Roles = []emulator.RoleAssignment{{Identity: clientID, Role: emulator.Administrator}}
			break
		}
	}
	var err error
	p.emu, err = emulator.Start(emulator.Options{
		Vaults: []emulator.VaultConfig{vault, {Host: hsmHost, Profile: emulator.ManagedHSM, RecoverableDays: 7}},
		Now:    func() time.Time { return time.Now().Add(time.Duration(p.ahead.Load())) },

		DeletionDelay: settling, TokenLifetime: 365 * 24 * time.Hour, HSMWithoutDate: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.emu.Close(); err != nil {
			t.Error(err)
		}
	})
	p.by = p.emu.Transport()
	p.furnish(r)
	return p
}

// furnish makes the keys that the recorded vault had besides the recording's own, so that its listings have as many
// pages.
func (p *player) furnish(r recording) {
	rows := map[string]int{}
	for _, c := range r.calls {
		if !c.lists() || strings.HasSuffix(c.path(), "/versions") {
			continue
		}
		body, _ := c.ResponseBody.(map[string]any)
		if _, more := body["nextLink"].(string); !more {
			continue
		}
		size := 25
		if strings.Contains(c.RequestURI, "maxresults=1") {
			size = 1
		}
		rows[fmt.Sprint(c.toHSM(), c.path())] += size
	}
	for where, n := range rows {
		host := map[bool]string{true: hsmHost, false: vaultHost}[strings.HasPrefix(where, "true")]
		for i := range n {
			name := fmt.Sprintf("another-%d", i)
			p.must(host, http.MethodPost, "/keys/"+name+"/create?api-version=7.3", `{"kty":"EC"}`)
			if strings.HasSuffix(where, "/deletedkeys") {
				p.must(host, http.MethodDelete, "/keys/"+name+"?api-version=7.3", "")
			}
		}
	}
}

func (p *player) must(host, method, target, body string) {
	p.t.Helper()
	if r := p.send(host, method, target, p.token(host), []byte(body)); r.status != http.StatusOK {
		p.t.Fatalf("%s %s: %d %v", method, target, r.status, r.body)
	}
}

func (c call) lists() bool {
	path := c.path()
	return c.RequestMethod == http.MethodGet && (path == "/keys" || path == "/deletedkeys" ||
		strings.HasSuffix(path, "/versions"))
}

// play sends one recorded request, with the emulator's values in it.
func (p *player) play(c call) reply {
	host, token := vaultHost, ""
	if c.toHSM() {
		host = hsmHost
	}
	if c.signedIn() {
		token = p.token(host)
	}
	if c.wasReady() {
		p.ahead.Add(int64(settling))
	}
	target := c.target()
	if next := p.learnt[plain(c.RequestURI)]; next != "" {
		target = next
	}
	for recorded, is := range p.learnt {
		if hexVersion.MatchString(recorded) && len(recorded) == 32 {
			target = strings.ReplaceAll(target, recorded, is)
		}
	}
	var body []byte
	if c.RequestBody != nil {
		body = p.mustJSON(p.translated(c.RequestBody))
	}
	r := p.send(host, c.RequestMethod, target, token, body)
	if c.lists() && ended(c.ResponseBody) {
		for !ended(r.body) { // the recorded page was the last: compare it with the last
			r = p.send(host, c.RequestMethod, afterHost(r.body.(map[string]any)["nextLink"].(string)), token, nil)
		}
	}
	p.learn("", c.ResponseBody, r.body)
	return r
}

// wasReady reports whether the answer shows that the vault had finished something that takes it a while.
func (c call) wasReady() bool {
	path := c.path()
	return c.StatusCode < 300 && (strings.HasPrefix(path, "/deletedkeys") || path == "/keys/restore" ||
		c.RequestMethod == http.MethodGet && strings.HasPrefix(path, "/keys/") && !c.lists())
}

func ended(body any) bool {
	page, ok := body.(map[string]any)
	if !ok {
		return true
	}
	_, more := page["nextLink"].(string)
	return !more
}

// translated is a request's body with the emulator's values.
func (p *player) translated(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, value := range v {
			out[name] = p.translated(value)
		}
		return out
	case []any:
		var out []any
		for _, value := range v {
			out = append(out, p.translated(value))
		}
		return out
	case string:
		if is, ok := p.learnt[v]; ok {
			return is
		}
	}
	return v
}

// learn compares two answers side by side and notes the emulator's values.
func (p *player) learn(name string, recorded, is any) {
	switch recorded := recorded.(type) {
	case map[string]any:
		if is, ok := is.(map[string]any); ok {
			for name, value := range recorded {
				p.learn(name, value, is[name])
			}
		}
	case []any:
		if is, ok := is.([]any); ok {
			for i := range min(len(recorded), len(is)) {
				p.learn(name, recorded[i], is[i])
			}
		}
	case string:
		is, ok := is.(string)
		if !ok {
			return
		}
		switch name {
		case "kid":
			if a, b := hexVersion.FindString(recorded), hexVersion.FindString(is); a != "" && b != "" {
				p.learnt[a] = b
			}
		case "nextLink":
			p.learnt[plain(recorded)] = afterHost(is)
		case "value":
			p.learnt[recorded] = is
		}
	}
}

var port443 = regexp.MustCompile(`^(https://[^/:]+):443/`)

// plain is a link as the recorded client followed it: without port, its query sorted.
func plain(link string) string {
	u, err := url.Parse(port443.ReplaceAllString(link, "$1/"))
	if err != nil || !strings.Contains(link, "skiptoken") {
		return "none"
	}
	q := u.Query()
	q.Del("api-version")
	return u.Path + "?" + q.Encode()
}

func afterHost(link string) string {
	_, rest, _ := strings.Cut(link, "://")
	_, path, _ := strings.Cut(rest, "/")
	return "/" + path
}

// token signs in by a virtual machine's managed identity.
func (p *player) token(host string) string {
	p.t.Helper()
	if p.tokens[host] != "" {
		return p.tokens[host]
	}
	resource := "https://" + host[strings.Index(host, ".")+1:]
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet,
		"http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource="+resource+"&client_id="+
			clientID, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Metadata", "true")
	body, ok := p.answer(r).body.(map[string]any)
	text, _ := body["access_token"].(string)
	if !ok || text == "" {
		p.t.Fatalf("no token for %s: %v", resource, body)
	}
	p.tokens[host] = text
	return text
}

func (p *player) send(host, method, target, token string, body []byte) reply {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), method, "https://"+host+target, bytes.NewReader(body))
	if err != nil {
		// A name that cannot be a path of a URL: sent as it was recorded.
		path, query, _ := strings.Cut(target, "?")
		r, err = http.NewRequestWithContext(p.t.Context(), method, "https://"+host, bytes.NewReader(body))
		if err != nil {
			p.t.Fatal(err)
		}
		r.URL.Opaque, r.URL.RawQuery = "//"+host+path, query
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return p.answer(r)
}

func (p *player) answer(r *http.Request) reply {
	p.t.Helper()
	res, err := p.by.RoundTrip(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	got := reply{status: res.StatusCode, header: res.Header}
	if len(text) > 0 && json.Unmarshal(text, &got.body) != nil {
		got.body = string(text)
	}
	return got
}

func (p *player) mustJSON(v any) []byte {
	p.t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		p.t.Fatal(err)
	}
	return text
}
