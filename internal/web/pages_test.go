package web

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/status"
)

// onPage are the names of the keys that a page shows, in its order.
func onPage(body string) (names []string) {
	for _, part := range strings.Split(body, `<a href="/keys/`)[1:] {
		name, _, _ := strings.Cut(part, `"`)
		if len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
	}
	return names
}

func TestManyKeysAreShownInPagesTheWorstFirst(t *testing.T) {
	s := manyKeys(120)
	s.Problems = nil // they link to keys as well
	addr := serve(t, (&world{snapshot: s}).config(t))
	seen := map[string]int{}
	for page, want := range map[int]int{1: 50, 2: 50, 3: 20} {
		a := ask(t, "GET", addr, fmt.Sprintf("/?page=%d", page), nil)
		names := onPage(a.body)
		if a.code != http.StatusOK || len(names) != want {
			t.Errorf("page %d: %d, %d keys, want %d", page, a.code, len(names), want)
		}
		for _, name := range names {
			seen[name]++
		}
		if page == 1 && names[0] != "app-041-cmk-key" {
			t.Errorf("the first key is %s, and the one in trouble is not", names[0])
		}
		if !strings.Contains(a.body, fmt.Sprintf("Page %d of 3", page)) ||
			!strings.Contains(a.body, "120 keys: 1 on hold, 119 well.") {
			t.Errorf("page %d does not say which it is, or how the keys are", page)
		}
	}
	if len(seen) != 120 {
		t.Errorf("the pages show %d of 120 keys", len(seen))
	}
	for _, page := range []string{"0", "-1", "x", "99999999999999999999", ""} {
		if a := ask(t, "GET", addr, "/?page="+page, nil); !strings.Contains(a.body, "Page 1 of 3") {
			t.Errorf("page %q is not the first: %d", page, a.code)
		}
	}
	if a := ask(t, "GET", addr, "/?page=4000", nil); !strings.Contains(a.body, "Page 3 of 3") {
		t.Error("a page beyond the end is not the last")
	}
}

func TestASearchFindsKeysByAPartOfTheirName(t *testing.T) {
	addr := serve(t, (&world{snapshot: manyKeys(1200)}).config(t))
	a := ask(t, "GET", addr, "/?q=APP-11", nil) // app-110 to app-119, app-1100 to app-1199
	if !strings.Contains(a.body, "110 keys found with “APP-11” in the name") ||
		!strings.Contains(a.body, `href="/?page=2&amp;q=APP-11#keys"`) {
		t.Errorf("found, and the way to the next page:\n%s", mainOf(a.body))
	}
	evil := ask(t, "GET", addr, "/?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E", nil)
	if strings.Contains(evil.body, "<script>alert") || !strings.Contains(evil.body, "0 keys found") {
		t.Error("a search that finds nothing is not shown as it should be")
	}
}

// A page of ten thousand keys is not longer than one of some hundreds: what grows are the names of states and pages.
func TestAPageOfManyKeysHasTheSizeOfOnePage(t *testing.T) {
	size := func(n int) int {
		s := manyKeys(n)
		for i := range s.Keys {
			s.Problems = append(s.Problems, status.Problem{Severity: status.Warning, Runbook: "keydkeynotmade",
				Key: s.Keys[i].Name, Text: s.Keys[i].Name + " has no generation yet"})
		}
		return len(statusHTML(t, s, nil, nil))
	}
	if few, many := size(500), size(10_000); many > few+few/20 {
		t.Errorf("a page of 500 keys has %d bytes, and one of 10,000 has %d", few, many)
	}
}
