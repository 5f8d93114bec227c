//go:build recordings

package recordings

import (
	_ "embed"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

//go:embed testdata/differences.txt
var listText string

// accepted reads the list: a line has the difference, " | " and the reason.
func accepted(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for line := range strings.Lines(listText) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		what, why, found := strings.Cut(line, " | ")
		if !found || strings.TrimSpace(why) == "" {
			t.Errorf("the list has no reason for %q", line)
		}
		all[strings.TrimSpace(what)] = why
	}
	return all
}

// tally counts what all players saw.
type tally struct {
	mu       sync.Mutex
	replayed int
	differ   int
	seen     map[string]string // a difference: where first

	emptyPages int // with more pages after them
}

func TestTheEmulatorAnswersAsTheRecordedServices(t *testing.T) {
	list := accepted(t)
	all := &tally{seen: map[string]string{}}
	t.Run("files", func(t *testing.T) {
		for _, r := range load(t) {
			t.Run(r.name, func(t *testing.T) {
				t.Parallel()
				replay(t, r, all)
			})
		}
	})
	for _, what := range slices.Sorted(maps.Keys(all.seen)) {
		if list[what] == "" {
			t.Errorf("not listed: %s\n\tat %s", what, all.seen[what])
		}
	}
	for what := range list {
		if all.seen[what] == "" {
			t.Errorf("listed, but it does not occur any more: %s", what)
		}
	}
	if all.emptyPages == 0 {
		t.Error("no page of the emulator's was empty with more behind it")
	}
	fmt.Printf("recordings: %d requests replayed, %d differ as listed\n", all.replayed, all.differ)
}

func replay(t *testing.T, r recording, all *tally) {
	p := newPlayer(t, r)
	for i, c := range r.calls {
		where := fmt.Sprintf("%s#%d", r.name, i)
		if !c.ofService() {
			all.left("the attestation service of Microsoft's own tests: not replayed", where)
			continue
		}
		got := p.play(c)
		var what []string
		for _, d := range p.differences(c, got) {
			what = append(what, fmt.Sprintf("%s: %s", c.kind(), d))
		}
		all.add(where, what, got.body)
	}
}

// left is a request that is not sent.
func (a *tally) left(what, where string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen[what] = where
}

func (a *tally) add(where string, what []string, body any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.replayed++
	if len(what) > 0 {
		a.differ++
	}
	for _, w := range what {
		if a.seen[w] == "" {
			a.seen[w] = where
		}
	}
	page, _ := body.(map[string]any)
	values, isPage := page["value"].([]any)
	if _, more := page["nextLink"].(string); isPage && more && len(values) == 0 {
		a.emptyPages++
	}
}

var (
	nameInPath   = regexp.MustCompile(`^/(keys|deletedkeys)/[^/]+`)
	emptyVersion = regexp.MustCompile(`/(VERSION|)/?$`)
)

// kind names a call by service, method and path, without names and versions.
func (c call) kind() string {
	path := c.path()
	if path != "/keys/restore" {
		path = nameInPath.ReplaceAllString(path, "/$1/NAME")
	}
	path = emptyVersion.ReplaceAllString(hexVersion.ReplaceAllString(path, "VERSION"), "/VERSION")
	service := "vault"
	if c.toHSM() {
		service = "managedhsm"
	}
	text := fmt.Sprintf("%s: %s %s", service, c.RequestMethod, strings.ReplaceAll(path, "//", "/VERSION/"))
	if !c.signedIn() && c.StatusCode == http.StatusUnauthorized {
		text = service + ": challenge"
	}
	return text
}
