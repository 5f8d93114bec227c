package rotate_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azpolicy "github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/observe"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/vault"
)

// Here the loop uses the real vault client, over TLS, against the model's vault. That vault answers truthfully until
// a test makes it lie. A second listener answers for every other name in the world: no request may ever reach it.

const (
	hostileKEK = "keyd-kek"
	elsewhere  = "https://elsewhere.example"
)

// lie answers a request in the vault's place and returns true, or returns false to let the vault answer. The
// operation is kek, newest, get, versions, deleted, import, wrap, unwrap or update; honest is the vault's own answer.
type lie func(w http.ResponseWriter, operation string, honest []byte) bool

type hostile struct {
	*world
	p       key.Policy
	rotator *rotate.Rotator

	mu   sync.Mutex
	lie  lie
	puts int // imports that arrived, whatever became of them
	// strayed are the requests that went to another host.
	strayed []string
}

// newHostile makes a world with two finished generations, a day apart.
func newHostile(t *testing.T) *hostile {
	t.Helper()
	h := &hostile{world: newWorld(t, 1, weu), p: policy(weu)}
	h.p.Retire = key.RetireRule{DisableAfter: 24 * time.Hour, NoConsumers: true}
	quiet := slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	start := func(f http.HandlerFunc) *httptest.Server {
		s := httptest.NewUnstartedServer(f)
		s.Config.ErrorLog = quiet
		s.StartTLS()
		t.Cleanup(s.Close)
		return s
	}
	ours := start(h.serve)
	other := start(func(_ http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.strayed = append(h.strayed, r.Method+" "+r.Host+r.URL.String())
	})
	transport, err := vault.NewTransport("")
	if err != nil {
		t.Fatal(err)
	}
	transport.Proxy = nil
	// Both servers have httptest's certificate, which names example.com.
	transport.TLSClientConfig = ours.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	transport.TLSClientConfig.ServerName = "example.com"
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		to := other
		if addr == strings.TrimPrefix(weu.URL, "https://")+":443" {
			to = ours
		}
		return (&net.Dialer{}).DialContext(ctx, network, to.Listener.Addr().String())
	}
	t.Cleanup(transport.CloseIdleConnections)
	client, err := vault.New(vault.Config{Vault: weu, KEKName: hostileKEK, CreateKEK: true, Clock: h.clock},
		token{}, vault.HTTPClient(transport), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	h.vault[weu.URL].kek, err = ptrTo(h.vault[weu.URL].CreateKEK(t.Context(), "", nil))
	if err != nil {
		t.Fatal(err)
	}
	observer := observe.New(observe.Config{
		Instance: instance, Slow: 15 * time.Minute, HSM: h.hsm, Records: h.store, Clock: h.clock,
		Vaults: func(string) observe.Vault { return client },
	})
	h.rotator = rotate.New(rotate.Config{
		Instance: instance, Generator: "keyd test", HSM: h.hsm, Store: h.store, Observer: observer,
		Vaults: func(string) rotate.Vault { return client },
		Clock:  h.clock, Random: rndReader{h.rnd}, Look: 15 * time.Minute,
		Emit: h.world.rotator().Emit,
	})
	h.runUnheld(20 * time.Minute)
	h.now = h.now.Add(24 * time.Hour)
	h.runUnheld(20 * time.Minute)
	if rec := h.record(h.p.Key); len(rec.Generations) != 2 || rec.Generations[1].Finished.IsZero() || h.puts != 2 {
		t.Fatalf("the world is not ready: %d generations, %d imports\n%s", len(rec.Generations), h.puts, h.story())
	}
	h.consentToRetire(h.p)
	return h
}

func ptrTo(k key.KEK, err error) (*key.KEK, error) { return &k, err }

func (h *hostile) clock() time.Time { return h.now }

type token struct{}

func (token) GetToken(context.Context, azpolicy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// run steps the key for a while by the world's clock, during which the loop looks many times. It turns off the SDK's
// own retries, which would only cost time.
func (h *hostile) run(d time.Duration) (acted, failed int) {
	ctx := azpolicy.WithRetryOptions(h.tb.Context(), azpolicy.RetryOptions{MaxRetries: -1})
	for end := h.now.Add(d); h.now.Before(end); {
		_, _ = h.rotator.StepVault(leading(ctx), vaultPolicy(weu))
		step, err := h.rotator.StepKey(leading(ctx), h.p)
		switch {
		case err != nil:
			failed++
			h.now = h.now.Add(5 * time.Minute)
		case step.Acts():
			acted++
			h.now = h.now.Add(time.Second)
		default:
			if step.Kind == plan.Wait {
				failed++
			}
			h.now = h.now.Add(16 * time.Minute)
		}
	}
	return acted, failed
}

// runUnheld runs for a while and requires that the key is not held at the end.
func (h *hostile) runUnheld(d time.Duration) {
	h.tb.Helper()
	h.run(d)
	if hold := h.record(h.p.Key).Hold; hold != nil {
		h.tb.Fatalf("held: %s\n%s", hold.Reason, h.story())
	}
}

func (h *hostile) lies(l lie) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lie = l
}

// wantNothingDone requires that nothing was wrapped, imported, disabled or sent elsewhere since newHostile.
func (h *hostile) wantNothingDone() {
	h.tb.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.puts != 2 || h.hsm.wraps != 2 {
		h.tb.Errorf("%d imports and %d wraps, want 2 of each\n%s", h.puts, h.hsm.wraps, h.story())
	}
	if off := h.vault[weu.URL].disabled; len(off) > 0 {
		h.tb.Errorf("disabled %v\n%s", off, h.story())
	}
	h.wantNothingStrayed()
}

func (h *hostile) wantNothingStrayed() {
	h.tb.Helper()
	if len(h.strayed) > 0 {
		h.tb.Errorf("requests went elsewhere: %q", h.strayed)
	}
}

// serve is the model's vault as Key Vault's REST interface.
func (h *hostile) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	w.Header().Set("Date", h.now.Format(http.TimeFormat))
	if r.Header.Get("Authorization") == "" {
		w.Header().Set("WWW-Authenticate", `Bearer `+
			`authorization="https://login.microsoftonline.com/tenant", resource="https://vault.azure.net"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	op, status, answer := h.honest(r, body)
	text, err := json.Marshal(answer)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	if h.lie != nil && h.lie(w, op, text) {
		return
	}
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

type object = map[string]any

func (h *hostile) honest(r *http.Request, body []byte) (op string, status int, answer object) {
	ctx, v := r.Context(), h.vault[weu.URL]
	var in struct {
		Value []byte
		Key   struct {
			Blob string   `json:"key_hsm"`
			Ops  []string `json:"key_ops"`
		}
		Tags map[string]string
	}
	_ = json.Unmarshal(body, &in) // reads a base64url value below
	var raw struct{ Value string }
	_ = json.Unmarshal(body, &raw)
	value, _ := base64.RawURLEncoding.DecodeString(raw.Value)

	var out key.Version
	var err error
	part := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if len(part) == 1 {
		return h.honestSweep(ctx)
	}
	name := part[1]
	switch {
	case part[0] == "deletedkeys":
		op, err = "deleted", fmt.Errorf("not deleted")
	case name == hostileKEK && len(part) == 3 && part[2] == "versions":
		all, err := v.KEKVersions(ctx)
		if err != nil {
			return "kek versions", http.StatusServiceUnavailable, object{}
		}
		items := []object{}
		for _, x := range all {
			x.Created = h.now
			items = append(items, wireItem(name, x))
		}
		return "kek versions", http.StatusOK, object{"value": items, "nextLink": nil}
	case name == hostileKEK:
		op = "kek"
		kek := *v.kek
		out = key.Version{ID: kek.Kid[strings.LastIndex(kek.Kid, "/")+1:], Enabled: true, Created: h.now,
			Material: kek.Material, Kty: "RSA-HSM", Operations: []key.Operation{"import"}}
	case len(part) == 3 && part[2] == "versions":
		all, err := v.Versions(ctx, name)
		if err != nil {
			return "versions", http.StatusServiceUnavailable, object{}
		}
		items := []object{}
		for _, x := range all {
			items = append(items, wireItem(name, x))
		}
		return "versions", http.StatusOK, object{"value": items, "nextLink": nil}
	case r.Method == http.MethodPut:
		op = "import"
		h.puts++
		blob, _ := base64.RawURLEncoding.DecodeString(in.Key.Blob)
		q := key.ImportRequest{Key: name, Blob: blob, Tags: in.Tags}
		for _, o := range in.Key.Ops {
			q.Operations = append(q.Operations, key.Operation(o))
		}
		out, err = v.Import(ctx, q)
	case r.Method == http.MethodPatch:
		op = "update"
		if err = v.Disable(ctx, name, part[2]); err == nil {
			out, err = v.Get(ctx, name, part[2])
		}
	case len(part) == 4:
		var result []byte
		op = map[string]string{"wrapkey": "wrap", "unwrapkey": "unwrap"}[part[3]]
		if op == "wrap" {
			result, err = v.Wrap(ctx, name, part[2], value)
		} else {
			result, err = v.Unwrap(ctx, name, part[2], value)
		}
		if err == nil {
			return op, http.StatusOK, object{"kid": kid(name, part[2]),
				"value": base64.RawURLEncoding.EncodeToString(result)}
		}
	case len(part) == 3 && part[2] != "":
		op = "get"
		out, err = v.Get(ctx, name, part[2])
	default:
		op = "newest"
		out, err = v.Newest(ctx, name)
	}
	if err != nil {
		return op, http.StatusNotFound, object{"error": object{"code": "KeyNotFound", "message": err.Error()}}
	}
	return op, http.StatusOK, wireBundle(name, out)
}

func (h *hostile) honestSweep(ctx context.Context) (op string, status int, answer object) {
	all, err := h.vault[weu.URL].Sweep(ctx, 1)
	if err != nil {
		return "sweep", http.StatusServiceUnavailable, object{}
	}
	list := []object{}
	for _, x := range all {
		item := wireItem(x.Name, key.Version{Enabled: x.Enabled, Created: x.Created, Tags: x.Tags})
		item["kid"] = weu.URL + "/keys/" + x.Name
		list = append(list, item)
	}
	return "sweep", http.StatusOK, object{"value": list, "nextLink": nil}
}

func kid(name, version string) string { return weu.URL + "/keys/" + name + "/" + version }

func wireItem(name string, v key.Version) object {
	attributes := object{"enabled": v.Enabled, "created": v.Created.Unix()}
	return object{"kid": kid(name, v.ID), "tags": v.Tags, "attributes": attributes}
}

func wireBundle(name string, v key.Version) object {
	item := wireItem(name, v)
	pub, _ := v.Material.RSA()
	item["key"] = object{"kid": item["kid"], "kty": v.Kty, "key_ops": v.Operations,
		"n": base64.RawURLEncoding.EncodeToString(pub.N.Bytes()),
		"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(pub.E)).Bytes())}
	delete(item, "kid")
	return item
}

// --- lies

// says returns a lie that applies change to the honest answer of the given operations, or of all if none is given.
func says(change func(honest string) string, operations ...string) lie {
	return func(w http.ResponseWriter, op string, honest []byte) bool {
		if len(operations) > 0 && !slices.Contains(operations, op) {
			return false
		}
		_, _ = io.WriteString(w, change(string(honest)))
		return true
	}
}

// replaces rewrites one member of every object, however deep.
func replaces(member string, value any, operations ...string) lie {
	return says(func(honest string) string {
		var tree any
		if err := json.Unmarshal([]byte(honest), &tree); err != nil {
			panic(err)
		}
		out, err := json.Marshal(replace(tree, member, value))
		if err != nil {
			panic(err)
		}
		return string(out)
	}, operations...)
}

func replace(tree any, member string, value any) any {
	switch x := tree.(type) {
	case []any:
		for i := range x {
			x[i] = replace(x[i], member, value)
		}
	case object:
		for name := range maps.Keys(x) {
			if name == member {
				x[name] = value
			} else {
				x[name] = replace(x[name], member, value)
			}
		}
	}
	return tree
}

// pageful is a listing of 5001 made-up entries, two more than keyd reads: one page of a few, each of which adds more.
// It is made once.
func pageful(i int) string { return pagefuls()[i%len(pagefuls())] }

var pagefuls = sync.OnceValue(func() (pages [4]string) {
	for i := range pages {
		pages[i] = strangers(5001, 5001*i)
	}
	return pages
})

// strangers is a listing of that many made-up entries.
func strangers(n, from int) string {
	items := make([]string, n)
	for i := range items {
		items[i] = fmt.Sprintf(`{"kid":"%s","attributes":{"enabled":true,"created":1700000000}}`,
			kid("sa-cmk-key", fmt.Sprintf("%032x", from+i)))
	}
	return strings.Join(items, ",")
}

// nonsense lists answers that no vault gives. Each is an error, whatever is due.
func nonsense() map[string]lie {
	pages := 0
	longNumber := base64.RawURLEncoding.EncodeToString(slices.Repeat([]byte{0xff}, 300))
	return map[string]lie{
		"a huge body": func(w http.ResponseWriter, _ string, honest []byte) bool {
			_, _ = w.Write(honest[:1])
			space := slices.Repeat([]byte{' '}, 1<<20)
			for range 64 {
				if _, err := w.Write(space); err != nil {
					return true
				}
			}
			_, _ = w.Write(honest[1:])
			return true
		},
		"a header without end": func(w http.ResponseWriter, _ string, _ []byte) bool {
			w.Header().Set("X", strings.Repeat("x", 1<<20))
			return true
		},
		"no JSON":        says(func(string) string { return "<html>hello</html>" }),
		"half an answer": says(func(s string) string { return s[:len(s)/2] }),
		"a broken promise": func(w http.ResponseWriter, _ string, honest []byte) bool {
			w.Header().Set("Content-Length", fmt.Sprint(2*len(honest)))
			_, _ = w.Write(honest)
			return true
		},
		"nothing":                  says(func(string) string { return "" }),
		"an empty object":          says(func(string) string { return "{}" }),
		"deep nesting":             says(func(string) string { return strings.Repeat("[", 1<<20) }),
		"no type of key":           replaces("kty", nil),
		"versions on a curve":      replaces("kty", "EC-HSM", "newest", "get"),
		"symmetric versions":       replaces("kty", "oct-HSM", "newest", "get"),
		"a modulus of one bit":     replaces("n", "AQ"),
		"a modulus of no bits":     replaces("n", ""),
		"a modulus without end":    replaces("n", strings.Repeat("_", 1<<20)),
		"an exponent of zero":      replaces("e", "AA"),
		"an exponent of one":       replaces("e", "AQ"),
		"an exponent of 300 bytes": replaces("e", longNumber),
		"ids that are not hex":     replaces("kid", kid("sa-cmk-key", strings.Repeat("z", 32))),
		"ids that climb":           replaces("kid", kid("sa-cmk-key", "../../"+hostileKEK)),
		"ids of another vault":     replaces("kid", elsewhere+"/keys/sa-cmk-key/"+strings.Repeat("a", 32)),
		"times without sense":      replaces("created", "yesterday"),
		"no times":                 replaces("created", nil),
		"newer than the newest":    replaces("created", 1<<40, "versions"),
		"the newest not listed":    replaces("kid", kid("sa-cmk-key", strings.Repeat("a", 32)), "newest"),
		"one version of two times": says(func(s string) string {
			twice := strings.Replace(strangers(1, 5)+","+strangers(1, 5)+",", "1700000000", "1600000000", 1)
			return strings.Replace(s, `"value":[`, `"value":[`+twice, 1)
		}, "versions"),
		"a next page elsewhere":       replaces("nextLink", elsewhere+"/keys/sa-cmk-key/versions?page=2", "versions"),
		"a next page by another port": replaces("nextLink", weu.URL+":8443/keys/sa-cmk-key/versions", "versions"),
		"a next page of a namesake":   replaces("nextLink", weu.URL+".elsewhere.example/keys", "versions"),
		"a next page by a user":       replaces("nextLink", weu.URL+"@elsewhere.example/keys", "versions"),
		"a next page in the clear": replaces("nextLink",
			strings.Replace(weu.URL, "https", "http", 1)+"/keys/sa-cmk-key/versions", "versions"),
		"a next page that is itself": replaces("nextLink", weu.URL+"/keys/sa-cmk-key/versions?page=2", "versions"),
		"pages without end": says(func(string) string {
			pages++
			return fmt.Sprintf(`{"value":[%s],"nextLink":"%s/keys/sa-cmk-key/versions?page=%d"}`, pageful(pages),
				weu.URL, pages)
		}, "versions"),
		"a way elsewhere": func(w http.ResponseWriter, _ string, _ []byte) bool {
			w.Header().Set("Location", elsewhere+"/keys")
			w.WriteHeader(http.StatusTemporaryRedirect)
			return true
		},
		"a challenge for elsewhere": func(w http.ResponseWriter, _ string, _ []byte) bool {
			w.Header().Set("WWW-Authenticate", `Bearer authorization="`+elsewhere+`/tenant", resource="`+elsewhere+`"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		},
		"a challenge without tenant": func(w http.ResponseWriter, _ string, _ []byte) bool {
			w.Header().Set("WWW-Authenticate",
				`Bearer authorization="`+elsewhere+`", resource="https://vault.azure.net"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		},
	}
}

// badKEKs lists honest facts about the key beside the KEK, none of which can be a KEK.
func badKEKs() map[string]lie {
	return map[string]lie{
		"another type of key": replaces("kty", "EC-HSM"),
		"another KEK": replaces("n",
			base64.RawURLEncoding.EncodeToString(pairOf(foreignPair).PublicKey.N.Bytes()), "kek"),
		"a KEK that may unwrap":     replaces("key_ops", []string{"import", "unwrapKey"}, "kek"),
		"a KEK that sends in clear": replaces("e", "AQ", "kek"),
		"a negative exponent":       replaces("e", -3),
	}
}

// A disabling is due, with no rotation before it, and the vault answers nonsense. The disabling waits until the vault
// answers truthfully.
func TestNonsenseFromAVaultMakesTheLoopDisableNothing(t *testing.T) {
	t.Parallel()
	for name, l := range nonsense() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHostile(t)
			h.disablingIsDue()
			h.lies(l)
			h.run(40 * time.Minute)
			h.wantNothingDone()
			h.lies(nil)
			h.runUnheld(40 * time.Minute)
			if off := h.vault[weu.URL].disabled; h.puts != 2 || len(off) != 1 {
				t.Errorf("afterwards: %d imports, disabled %v\n%s", h.puts, off, h.story())
			}
		})
	}
}

// aboutNewest names the nonsense that only the answer about the newest version has. Where the listing shows what keyd
// knew, keyd imports before it asks for the newest version again.
var aboutNewest = map[string]bool{"symmetric versions": true, "versions on a curve": true,
	"the newest not listed": true}

// A rotation and a disabling are due, and the vault answers nonsense: neither happens. Once the vault answers
// truthfully again, each happens once.
func TestNonsenseFromAVaultMakesTheLoopDoNothing(t *testing.T) {
	t.Parallel()
	for name, l := range nonsense() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHostile(t)
			h.now = h.now.Add(24 * time.Hour)
			h.lies(l)
			_, failed := h.run(40 * time.Minute)
			switch {
			case aboutNewest[name]:
				if off := h.vault[weu.URL].disabled; h.puts > 3 || len(off) > 0 {
					t.Errorf("%d imports, disabled %v\n%s", h.puts, off, h.story())
				}
			case failed == 0:
				t.Errorf("nothing failed and nothing waited\n%s", h.story())
			default:
				h.wantNothingDone()
			}
			h.lies(nil)
			h.runUnheld(40 * time.Minute)
			rec := h.record(h.p.Key)
			if off := h.vault[weu.URL].disabled; len(rec.Generations) != 3 || rec.Generations[2].Finished.IsZero() ||
				h.puts != 3 || len(off) != 1 {
				t.Errorf("afterwards: %d generations, %d imports, disabled %v\n%s", len(rec.Generations), h.puts, off,
					h.story())
			}
			h.wantNothingStrayed()
		})
	}
}

// A rotation is due, and the vault shows a KEK that would not protect the key: keyd wraps nothing for it.
func TestKeydWrapsNothingForAKeyThatCannotBeAKEK(t *testing.T) {
	t.Parallel()
	for name, l := range badKEKs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHostile(t)
			h.p.Retire = key.RetireRule{}
			h.now = h.now.Add(24 * time.Hour)
			h.lies(l)
			h.run(40 * time.Minute)
			h.wantNothingDone()
			h.lies(nil)
			h.runUnheld(40 * time.Minute)
			if h.puts != 3 {
				t.Errorf("afterwards: %d imports\n%s", h.puts, h.story())
			}
		})
	}
}

// disablingIsDue lets time pass until the first generation may be disabled, and keeps any rotation from coming first.
func (h *hostile) disablingIsDue() {
	h.p.Schedule = nil
	h.now = h.now.Add(24 * time.Hour)
}

// wantDisabledWhenTruthful requires that the disabling was due all along: once the vault answers truthfully and a
// person has lifted any hold, it happens, once.
func (h *hostile) wantDisabledWhenTruthful() {
	h.tb.Helper()
	h.lies(nil)
	if h.record(h.p.Key).Hold != nil {
		if err := h.rotator.Resume(h.tb.Context(), h.p.Key, "uid 0 (root)", "the vault tells the truth"); err != nil {
			h.tb.Fatal(err)
		}
	}
	h.runUnheld(20 * time.Minute)
	if off := h.vault[weu.URL].disabled; h.puts != 2 || len(off) != 1 {
		h.tb.Errorf("afterwards: %d imports, disabled %v\n%s", h.puts, off, h.story())
	}
}

// The vault's lie could be true. keyd may trust it enough to hold the key, but imports nothing and disables nothing
// before it is due. keyd carries out a due disabling only if the lie leaves no doubt about the newest version.
func TestALieFromAVaultNeverMakesTheLoopImportOrDisable(t *testing.T) {
	t.Parallel()
	foreign := base64.RawURLEncoding.EncodeToString(pairOf(foreignPair).PublicKey.N.Bytes())
	harmless := map[string]bool{"every version twice": true, "made before there was Unix": true,
		"made in a far future": true, "our tags on everything": true}
	for name, l := range map[string]lie{
		"another key's modulus": replaces("n", foreign, "newest", "get"),
		"every version twice": says(func(s string) string {
			return strings.Replace(s, `[`, `[`+s[strings.Index(s, "[")+1:strings.LastIndex(s, "]")]+",", 1)
		}, "versions"),
		"no versions":                says(func(string) string { return `{"value":[]}` }, "versions"),
		"all disabled":               replaces("enabled", false, "newest", "get", "versions"),
		"made before there was Unix": replaces("created", -1<<40, "newest", "get", "versions"),
		"made in a far future":       replaces("created", 1<<36, "newest", "get", "versions"),
		"our tags on everything": replaces("tags", map[string]string{key.TagInstance: instance,
			key.TagGeneration: "9", key.TagAttempt: strings.Repeat("a", 32)}, "versions"),
		"a key that was deleted": func(w http.ResponseWriter, op string, _ []byte) bool {
			switch op {
			case "versions":
				_, _ = io.WriteString(w, `{"value":[]}`)
			case "deleted":
				_, _ = io.WriteString(w, `{"key":{"kid":"`+kid("sa-cmk-key", strings.Repeat("a", 32))+`"}}`)
			default:
				return false
			}
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHostile(t)
			h.p.Schedule = nil
			h.lies(l)
			h.run(time.Hour)
			h.wantNothingDone()
			h.disablingIsDue()
			h.run(time.Hour)
			if !harmless[name] {
				h.wantNothingDone()
			}
			h.wantDisabledWhenTruthful()
		})
	}
}

// The answer to the import itself is nonsense or a lie. keyd never sends the import again; if the listing shows what
// happened, the rotation goes on.
func TestANonsenseAnswerToAnImportCausesNoSecondImport(t *testing.T) {
	t.Parallel()
	foreign := base64.RawURLEncoding.EncodeToString(pairOf(foreignPair).PublicKey.N.Bytes())
	held := map[string]bool{"another version": true}
	all := nonsense()
	maps.Copy(all, badKEKs())
	lies := map[string]lie{
		"another key's modulus": replaces("n", foreign, "import"),
		"another version":       replaces("kid", kid("sa-cmk-key", strings.Repeat("a", 32)), "import"),
	}
	for _, name := range []string{"a huge body", "no JSON", "half an answer", "a broken promise", "nothing",
		"an empty object",
		"another type of key", "a modulus of one bit", "an exponent of zero", "ids of another vault",
		"ids that are not hex", "no times", "a way elsewhere"} {
		l := all[name]
		if l == nil {
			t.Fatalf("there is no lie %q", name)
		}
		lies[name] = func(w http.ResponseWriter, op string, honest []byte) bool {
			return op == "import" && l(w, op, honest)
		}
	}
	for name, l := range lies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHostile(t)
			h.now = h.now.Add(24 * time.Hour)
			h.lies(l)
			h.run(time.Hour)
			rec := h.record(h.p.Key)
			if h.puts != 3 || len(rec.Generations) != 3 {
				t.Errorf("%d imports, %d generations\n%s", h.puts, len(rec.Generations), h.story())
			}
			if got := rec.Hold != nil; got != held[name] || got == !rec.Generations[2].Finished.IsZero() {
				t.Errorf("held %t, finished at %s\n%s", got, rec.Generations[2].Finished, h.story())
			}
			h.wantNothingStrayed()
		})
	}
}
