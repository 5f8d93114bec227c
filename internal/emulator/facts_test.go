package emulator_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/keyd-project/keyd/internal/emulator"
)

// world is an emulator of every profile with its clock. Tests use plain HTTP, so that they see exactly what goes over
// the wire.
type world struct {
	*emulator.Emulator
	t      *testing.T
	clock  *clock
	by     http.RoundTripper
	tokens map[string]string // by host, for the hosts called so far
}

// reply is an answer with its body as JSON.
type reply struct {
	status int
	header http.Header
	text   string
	json   map[string]any
}

const (
	wrapOps = `["wrapKey","unwrapKey"]`
	rsaHSM  = `{"kty":"RSA-HSM","key_ops":["encrypt","decrypt","sign","verify","wrapKey","unwrapKey"]}`
	ecHSM   = `{"kty":"EC-HSM"}`
)

func newWorld(t *testing.T, change ...func(*emulator.Options)) *world {
	t.Helper()
	c := newClock()
	opts := emulator.Options{Now: c.Now}
	for _, f := range change {
		f(&opts)
	}
	e := start(t, opts)
	return &world{Emulator: e, t: t, clock: c, by: e.Transport(), tokens: map[string]string{}}
}

func (w *world) token(host string) string {
	w.t.Helper()
	if w.tokens[host] == "" {
		w.tokens[host] = token(w.t, managedIdentity(w.t, w.Emulator), "https://"+host[strings.Index(host, ".")+1:])
	}
	return w.tokens[host]
}

func (w *world) do(method, host, path, body string) reply {
	w.t.Helper()
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	res, text := doBy(w.t, w.by, method, "https://"+host+path+separator+"api-version=7.6", bearer(w.token(host)), body)
	r := reply{status: res.StatusCode, header: res.Header, text: text, json: map[string]any{}}
	if text != "" {
		if err := json.Unmarshal([]byte(text), &r.json); err != nil {
			w.t.Fatalf("%s %s: %q: %v", method, path, text, err)
		}
	}
	return r
}

// create makes a version and returns its id.
func (w *world) create(host, name, body string) string {
	w.t.Helper()
	r := w.do("POST", host, "/keys/"+name+"/create", body)
	if r.status != 200 {
		w.t.Fatalf("creating %s: %d %s", name, r.status, r.text)
	}
	return lastSegment(r.at("key", "kid").(string))
}

func (r reply) at(path ...string) any {
	var v any = r.json
	for _, name := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

// is compares status, code and inner code.
func (r reply) is(t *testing.T, status int, code, inner string) {
	t.Helper()
	got := fmt.Sprint(r.status, " ", r.at("error", "code"), " ", r.at("error", "innererror", "code"))
	if got != fmt.Sprint(status, " ", orNil(code), " ", orNil(inner)) {
		t.Errorf("got %s: %s", got, r.text)
	}
}

func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func lastSegment(kid string) string { return kid[strings.LastIndex(kid, "/")+1:] }

// list follows every page.
func (w *world) list(host, path string) (items []map[string]any, pages []reply) {
	w.t.Helper()
	for {
		r := w.do("GET", host, path, "")
		pages = append(pages, r)
		for _, item := range r.json["value"].([]any) {
			items = append(items, item.(map[string]any))
		}
		next, ok := r.json["nextLink"].(string)
		if !ok {
			return items, pages
		}
		path = strings.Replace(strings.TrimPrefix(strings.TrimPrefix(next, "https://"+host), ":443"), "api-version=7.6",
			"", 1)
	}
}

// TestFact checks the emulator against every known fact about the services. The names are the facts.
func TestFact(t *testing.T) {
	for _, f := range allFacts() {
		t.Run(f.fact, f.holds)
	}
}

func allFacts() []fact {
	return slices.Concat(namingFacts(), listingFacts(), useFacts(), deletionFacts(), limitFacts(), errorFacts(),
		refusalFacts(), hsmFacts(),
		wordFacts(), answerFacts(), consumerFacts())
}

// testdata/facts.txt lists what is known. Each fact has a test here, and every test here has a fact.
func TestEveryFactIsTested(t *testing.T) {
	text, err := os.ReadFile("testdata/facts.txt")
	must(t, err)
	var known, tested []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			known = append(known, line)
		}
	}
	for _, f := range allFacts() {
		tested = append(tested, f.fact)
	}
	slices.Sort(known)
	slices.Sort(tested)
	if d := gocmp.Diff(known, tested); d != "" {
		t.Errorf("known, and tested:\n%s", d)
	}
}

type fact struct {
	fact  string
	holds func(*testing.T)
}

var versionID = regexp.MustCompile(`^[0-9a-f]{32}$`)

func namingFacts() []fact {
	return []fact{
		{"Version = 32 lower-case hex", func(t *testing.T) {
			if id := newWorld(t).create(premium, "k", ecHSM); !versionID.MatchString(id) {
				t.Error(id)
			}
		}},
		{"Name ^[0-9a-zA-Z-]{1,127}$", func(t *testing.T) {
			w := newWorld(t)
			for name, status := range map[string]int{
				"a": 200, "A-9": 200, strings.Repeat("x", 127): 200, strings.Repeat("x", 128): 400, "a_b": 400,
				"a.b": 400, "%C3%A4": 400,
			} {
				if got := w.do("POST", premium, "/keys/"+name+"/create", ecHSM).status; got != status {
					t.Errorf("%s: %d", name, got)
				}
			}
		}},
		{"ids case-insensitive", func(t *testing.T) {
			w := newWorld(t)
			id := w.create(premium, "MyKey", ecHSM)
			r := w.do("GET", premium, "/keys/mYkEY/"+strings.ToUpper(id), "")
			if lastSegment(r.at("key", "kid").(string)) != id {
				t.Error(r.text)
			}
		}},
		{"at most 15 tags, 256/256 characters", func(t *testing.T) {
			w := newWorld(t)
			long := strings.Repeat("x", 256)
			for name, test := range map[string]struct {
				tags map[string]string
				fits bool
			}{
				"15":           {numbered(15), true},
				"16":           {numbered(16), false},
				"256 and 256":  {map[string]string{long: long}, true},
				"a long name":  {map[string]string{long + "x": ""}, false},
				"a long value": {map[string]string{"a": long + "x"}, false},
			} {
				body, err := json.Marshal(map[string]any{"kty": "EC", "tags": test.tags})
				must(t, err)
				if got := w.do("POST", premium, "/keys/k/create", string(body)).status; (got == 200) != test.fits {
					t.Errorf("%s: %d", name, got)
				}
			}
		}},
		{"Times are whole Unix seconds", func(t *testing.T) {
			w := newWorld(t)
			w.clock.advance(300 * time.Millisecond)
			r := w.do("POST", premium, "/keys/k/create", ecHSM)
			if got := r.at("attributes", "created"); got != float64(w.clock.Now().Unix()) {
				t.Error(got)
			}
		}},
	}
}

func numbered(n int) map[string]string {
	tags := map[string]string{}
	for i := range n {
		tags[fmt.Sprint(i)] = ""
	}
	return tags
}

func listingFacts() []fact {
	return []fact{
		{"List versions: kid + attributes + tags, never key material or key_ops", func(t *testing.T) {
			w := newWorld(t)
			for _, host := range []string{premium, managedHSM} {
				w.create(host, "k", `{"kty":"RSA-HSM","tags":{"a":"b"}}`)
				items, _ := w.list(host, "/keys/k/versions")
				got := slices.Sorted(maps.Keys(items[0]))
				if !slices.Equal(got, []string{"attributes", "kid", "tags"}) {
					t.Errorf("%s: %v", host, got)
				}
			}
		}},
		{"A vault lists by version hex, NOT by time; MHSM by time", func(t *testing.T) {
			w := newWorld(t)
			for _, host := range []string{premium, managedHSM} {
				var created, listed []string
				for range 12 {
					created = append(created, w.create(host, "k", ecHSM))
				}
				items, _ := w.list(host, "/keys/k/versions")
				for _, i := range items {
					listed = append(listed, lastSegment(i["kid"].(string)))
				}
				if host == premium {
					slices.Sort(created)
				}
				if !slices.Equal(listed, created) {
					t.Errorf("%s: %v", host, listed)
				}
			}
		}},
		{"Sort by created; ties of one second occur", func(t *testing.T) {
			for _, host := range []string{premium, managedHSM} {
				w := newWorld(t)
				begin, last := w.clock.Now().Unix(), ""
				for range 4 { // at 0, 0.4, 0.8 and 1.2 seconds
					last = w.create(host, "k", ecHSM)
					w.clock.advance(400 * time.Millisecond)
				}
				items, _ := w.list(host, "/keys/k/versions")
				created := func(i map[string]any) float64 {
					return i["attributes"].(map[string]any)["created"].(float64)
				}
				slices.SortFunc(items, func(a, b map[string]any) int { return cmp.Compare(created(a), created(b)) })
				var seconds []int64
				for _, i := range items {
					seconds = append(seconds, int64(created(i))-begin)
				}
				if !slices.Equal(seconds, []int64{0, 0, 0, 1}) || lastSegment(items[3]["kid"].(string)) != last {
					t.Errorf("%s: made in the seconds %v, the newest %v", host, seconds, items[3]["kid"])
				}
			}
		}},
		{"Page at most 25. Vault: nextLink names port 443, null at the end, pages short or empty; MHSM: field " +
			"absent, short pages, nextLink without port and api-version", func(t *testing.T) {
			w := newWorld(t)
			for _, host := range []string{premium, managedHSM} {
				for range 62 {
					w.create(host, "k", ecHSM)
				}
				if r := w.do("GET", host, "/keys/k/versions?maxresults=26", ""); r.status != 400 {
					t.Errorf("%s: 26 a page: %d", host, r.status)
				}
				items, pages := w.list(host, "/keys/k/versions")
				last, more := pages[len(pages)-1].json["nextLink"]
				first, hsm := pages[0], host == managedHSM
				if len(items) != 62 || last != nil || more == hsm {
					t.Errorf("%s: %d items, the last page has nextLink %v (%v)", host, len(items), last, more)
				}
				var sizes []int
				for _, p := range pages {
					sizes = append(sizes, len(p.json["value"].([]any)))
				}
				want := map[bool][]int{true: {10, 10, 10, 10, 10, 10, 2}, false: {25, 0, 25, 10, 2}}[hsm]
				if !slices.Equal(sizes, want) {
					t.Errorf("%s: pages of %v, not %v", host, sizes, want)
				}
				link := first.json["nextLink"].(string)
				if strings.Contains(link, "api-version") == hsm ||
					strings.HasPrefix(link, "https://"+host+":443/keys/k/versions?") == hsm {
					t.Errorf("%s: %s", host, link)
				}
			}
		}},
		{"Unknown key: vault answers 200 with an empty list", func(t *testing.T) {
			if r := newWorld(t).do("GET", premium, "/keys/absent/versions", ""); r.status != 200 ||
				len(r.json["value"].([]any)) != 0 {
				t.Error(r.text)
			}
		}},
		{"Versionless = the newest version by creation, even when that one is disabled", func(t *testing.T) {
			w := newWorld(t)
			w.create(premium, "k", rsaHSM)
			newest := w.create(premium, "k", rsaHSM)
			w.do("PATCH", premium, "/keys/k/"+newest, `{"attributes":{"enabled":false}}`)
			if r := w.do("GET", premium, "/keys/k/", ""); lastSegment(r.at("key", "kid").(string)) != newest {
				t.Error(r.text)
			}
		}},
		{"a disabled newest version breaks every versionless consumer", func(t *testing.T) {
			versionlessClientsBreak(t)
			followingServicesStop(t)
		}},
	}
}
