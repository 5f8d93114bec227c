package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"flag"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/status"
)

var update = flag.Bool("update", false, "write the golden files again")

var (
	statusPages = sync.OnceValue(func() *template.Template { return parse("status.html") })
	keyPages    = sync.OnceValue(func() *template.Template { return parse("key.html") })
)

// golden compares a text with testdata/NAME.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; go test ./internal/web -update writes it anew):\n%s", path, diff)
	}
}

// statusHTML is the status page of a world.
func statusHTML(t testing.TB, s status.Snapshot, events []status.Event, list []status.Entry) string {
	t.Helper()
	f := newFeed()
	for _, e := range events {
		f.apply(e)
	}
	var b bytes.Buffer
	sel := status.Selection{Page: 1}
	s = selected(s, sel)
	if err := statusPages().Execute(&b, viewStatus(s, sel, f.current(s), list, nil)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// selected is what the daemon answers when it is asked for some keys of a world.
func selected(s status.Snapshot, sel status.Selection) status.Snapshot {
	s.Keys, s.Vaults, s.Problems = slices.Clone(s.Keys), slices.Clone(s.Vaults), slices.Clone(s.Problems)
	s.Summarise()
	s.Select(sel)
	return s
}

func keyHTML(t *testing.T, s status.Snapshot, name string) string {
	t.Helper()
	page, ok := viewOneKey(s, name, entries()[2:], nil)
	if !ok {
		t.Fatalf("no page of %s", name)
	}
	var b bytes.Buffer
	if err := keyPages().Execute(&b, page); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestThePagesMatchTheGoldenFiles(t *testing.T) {
	rotating, events := rotatingNow()
	golden(t, "rotating.html", statusHTML(t, rotating, events, entries()))
	golden(t, "problems.txt", problemsText(everyTrouble()))
	golden(t, "no-keys.html", mainOf(statusHTML(t, nothing(), nil, nil)))
	golden(t, "hsm-down.html", mainOf(statusHTML(t, hsmDown(), nil, nil)))
	golden(t, "key.html", mainOf(keyHTML(t, everyTrouble(), "compromised")))
}

func TestAKeysPageSaysHowManyOfItsSparesAreReady(t *testing.T) {
	s := everyTrouble()
	name := s.Keys[0].Name
	if shown := keyHTML(t, s, name); strings.Contains(shown, "spares:") {
		t.Error("a key without spares shows some")
	}
	s.Keys[0].Spares = &status.Spares{Wanted: 2, Ready: 1}
	if shown := keyHTML(t, s, name); !strings.Contains(shown, "spares: 1 of 2 ready") {
		t.Error("the page does not say how many spares are ready")
	}
}

// mainOf is a page without what every page has.
func mainOf(html string) string {
	return html[strings.Index(html, "<main"):strings.Index(html, "<footer>")]
}

func TestTheHSMPanelShowsItsStateAndAge(t *testing.T) {
	s := everyTrouble()
	s.HSM.SeenAt = at.Add(-40 * time.Second)
	shown := statusHTML(t, s, nil, nil)
	for _, want := range []string{"degraded: it cannot work, since 13 Nov 2026", "last answer 40 seconds ago",
		"the token refused the PIN: it is not tried again"} {
		if !strings.Contains(shown, want) {
			t.Errorf("%q is not shown", want)
		}
	}
	s.HSM.Up, s.HSM.Error = false, "the HSM process ended: signal: killed"
	shown = statusHTML(t, s, nil, nil)
	for part, want := range map[string]bool{"the HSM process ended: signal: killed": true,
		"last answer 40 seconds ago": true, ">the token refused the PIN: it is not tried again": false} {
		if strings.Contains(shown, part) != want {
			t.Errorf("%q is shown: %v", part, !want)
		}
	}
}

// problemsText is what the page says about problems, without its markup.
func problemsText(s status.Snapshot) string {
	var b strings.Builder
	for _, g := range groupProblems(viewProblems(s)) {
		for _, p := range g.Shown {
			fmt.Fprintf(&b, "%s: %s\n", p.Severity, p.Text)
			line := func(name, text string) {
				if text != "" {
					fmt.Fprintf(&b, "  %s: %s\n", name, text)
				}
			}
			line("Detail", p.Detail)
			line("What to do", wordsOf(p.Remedy))
			for _, c := range p.Remedy.Commands {
				line("Command", c)
			}
			for _, raw := range p.Raw {
				line("Folded", raw)
			}
			line("Runbook", p.Runbook)
		}
	}
	return b.String()
}

// wordsOf is a remedy's text.
func wordsOf(r remedy) string {
	var b strings.Builder
	for _, c := range r.Clauses {
		b.WriteString(c.Text)
	}
	return b.String()
}

// A page may contain nothing that the policy would block: no inline script, style or handler.
func TestNoPageHasInlineScriptOrStyle(t *testing.T) {
	handler := regexp.MustCompile(`\son[a-z]+=`)
	for name, html := range everyPage(t) {
		for _, bad := range []string{"<style", " style=", "<script>", "javascript:", "formaction", "http-equiv"} {
			if strings.Contains(html, bad) {
				t.Errorf("%s has %q", name, bad)
			}
		}
		if found := handler.FindString(html); found != "" {
			t.Errorf("%s has %q", name, found)
		}
	}
}

// everyPage returns each world's pages by name.
func everyPage(t *testing.T) map[string]string {
	t.Helper()
	rotating, events := rotatingNow()
	all := map[string]string{}
	for name, s := range map[string]status.Snapshot{"none": nothing(), "three": threeKeys(), "many": manyKeys(50),
		"trouble": everyTrouble(), "down": hsmDown(), "rotating": rotating} {
		all[name] = statusHTML(t, s, events, entries())
		for _, k := range s.Keys {
			all[name+" "+k.Name] = keyHTML(t, s, k.Name)
		}
	}
	return all
}

func TestNoPageShowsOperatorsText(t *testing.T) {
	for name, html := range everyPage(t) {
		if strings.Contains(html, "SECRET-REASON") || strings.Contains(html, "hunter2") {
			t.Errorf("%s shows an operator's reason", name)
		}
	}
	_, events := rotatingNow()
	f := newFeed()
	for _, e := range events {
		f.apply(e)
	}
	r, _ := f.join(at)
	if len(r.messages) == 0 {
		t.Error("no events to look at")
	}
	for range len(r.messages) {
		if m := <-r.messages; bytes.Contains(m, []byte("SECRET-REASON")) {
			t.Errorf("an event has an operator's reason: %s", m)
		}
	}
}

func TestTheKeyPageIsServedOnlyForKnownKeys(t *testing.T) {
	addr := serve(t, (&world{snapshot: threeKeys()}).config(t))
	if a := ask(t, "GET", addr, "/keys/sa-cmk-key", nil); a.code != http.StatusOK ||
		!strings.Contains(a.body, "<h1>sa-cmk-key</h1>") {
		t.Errorf("%d %s", a.code, a.body)
	}
	if a := ask(t, "GET", addr, "/keys/SA-CMK-Key", nil); a.code != http.StatusOK ||
		!strings.Contains(a.body, "<h1>sa-cmk-key</h1>") {
		t.Errorf("in another case: %d", a.code)
	}
	for _, path := range []string{"/keys/other", "/keys/", "/keys/%2e%2e%2fstyle.css"} {
		if a := ask(t, "GET", addr, path, nil); a.code != http.StatusNotFound {
			t.Errorf("%s: %d", path, a.code)
		}
	}
}

func TestEveryStepAndEveryHoldHasWords(t *testing.T) {
	for _, kind := range plan.Kinds() {
		if _, ok := steps[string(kind)]; !ok {
			t.Errorf("the step %s has no words", kind)
		}
	}
	for _, code := range holdCodes() {
		if _, ok := holdWords[code]; !ok {
			t.Errorf("the hold %s has no words", code)
		}
	}
}

func TestEveryKeyHasATimeline(t *testing.T) {
	for name, s := range map[string]status.Snapshot{"three": threeKeys(), "many": manyKeys(500),
		"trouble": everyTrouble()} {
		html := statusHTML(t, s, nil, nil)
		n := strings.Count(html, `<svg class="timeline" role="img"`) + strings.Count(html,
			`<svg class="mini" role="img"`)
		if want := min(len(s.Keys), status.FewKeys); n != want {
			t.Errorf("%s: %d timelines of %d keys, want %d", name, n, len(s.Keys), want)
		}
	}
}

func TestManyProblemsOfOneKindHideNoOther(t *testing.T) {
	s := manyKeys(40)
	s.Problems = nil
	for i := range s.Keys {
		s.Problems = append(s.Problems, status.Problem{Severity: status.Critical, Key: s.Keys[i].Name,
			Runbook: "keydunwrapfailing", Text: s.Keys[i].Name + " did not prove"})
	}
	s.Problems = append(s.Problems,
		status.Problem{Severity: status.Critical, Runbook: "keydhsmdown", Text: "the HSM side is down"})
	groups := groupProblems(viewProblems(s))
	if len(groups) != 2 || len(groups[0].Shown) != ofAKind || len(groups[0].More) != 40-ofAKind ||
		groups[1].Shown[0].Text != "The HSM side is down" {
		t.Errorf("groups %+v", groups)
	}
	if html := statusHTML(t, s, nil, nil); !strings.Contains(html, "37 more like this") ||
		!strings.Contains(html, "41 problems need someone now") {
		t.Error("the page does not count them")
	}
}

func TestAnAlarmAboutAProofBecomesTheKeysState(t *testing.T) {
	states := map[string]string{}
	for _, k := range everyTrouble().Keys {
		states[k.Name] = k.Standing()
	}
	if states["refuted"] != status.StateUnproven || states["well"] != status.StateOK ||
		states["held-paused"] != status.StateHeld {
		t.Errorf("states %v", states)
	}
	if states["inconclusive"] != status.StateOK {
		t.Errorf("one inconclusive proof raises no alarm yet, but the key is %s", states["inconclusive"])
	}
}

func TestThePageReportsAnUnreadableAuditChain(t *testing.T) {
	c := (&world{snapshot: threeKeys()}).config(t)
	c.Recent = func(context.Context, int) ([]status.Entry, error) { return nil, os.ErrPermission }
	if a := ask(t, "GET", serve(t, c), "/", nil); a.code != http.StatusOK ||
		!strings.Contains(a.body, "audit chain cannot be read: permission denied") {
		t.Errorf("%d %s", a.code, a.body)
	}
}

func TestTheVerdictIsTheWorst(t *testing.T) {
	critical, warning := status.Problem{Severity: status.Critical}, status.Problem{Severity: status.Warning}
	for _, c := range []struct {
		problems []status.Problem
		keys     int
		ready    bool
		want     string
	}{
		{nil, 1, true, "All is well"},
		{nil, 0, true, "keyd runs; no key is configured yet"},
		{nil, 1, false, "keyd is looking at every vault for the first time"},
		{[]status.Problem{warning}, 1, true, "One problem to look at; nothing is lost"},
		{[]status.Problem{critical}, 1, true, "One problem needs someone now"},
		{[]status.Problem{critical, warning, warning}, 1, true, "One problem needs someone now, and 2 more can wait"},
		{[]status.Problem{critical, critical, warning}, 1, false, "2 problems need someone now, and 1 more can wait"},
	} {
		s := status.Snapshot{Problems: c.problems, Summary: status.Summary{Keys: c.keys}, Ready: c.ready}
		_, got := verdict(s, viewProblems(s))
		if got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestAHoldByAnOperatorShowsWhoAndNotWhy(t *testing.T) {
	s := threeKeys()
	hold(&s, 1, key.HoldPaused, operatorsReason)
	p := viewProblems(s)[0]
	if !strings.Contains(p.Detail, "uid 1000 (alice)") || strings.Contains(fmt.Sprint(p), "hunter2") ||
		!slices.Contains(p.Remedy.Commands, "keyd resume sa-cmk-key --reason …") {
		t.Errorf("%+v", p)
	}
}

// BenchmarkPage makes the page of 10,000 keys, and reports its size as page-KB.
func BenchmarkPage(b *testing.B) {
	all, list, page, sel := manyKeys(10_000), entries(), parse("status.html"), status.Selection{Page: 1}
	b.ReportAllocs()
	var size int
	for b.Loop() {
		var out bytes.Buffer
		if err := page.Execute(&out, viewStatus(selected(all, sel), sel, nil, list, nil)); err != nil {
			b.Fatal(err)
		}
		size = out.Len()
	}
	b.ReportMetric(float64(size)/1024, "page-KB")
}

func TestAPageIsCompressedForClientsThatAcceptIt(t *testing.T) {
	addr := serve(t, (&world{snapshot: manyKeys(500)}).config(t))
	plain := ask(t, "GET", addr, "/", func(r *http.Request) { r.Header.Set("Accept-Encoding", "identity") })
	packed := ask(t, "GET", addr, "/", func(r *http.Request) { r.Header.Set("Accept-Encoding", "br, gzip") })
	if plain.header.Get("Content-Encoding") != "" || packed.header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("encodings %q, %q", plain.header.Get("Content-Encoding"), packed.header.Get("Content-Encoding"))
	}
	in, err := gzip.NewReader(strings.NewReader(packed.body))
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := io.ReadAll(in)
	if err != nil || string(unpacked) != plain.body {
		t.Errorf("unpacked it is another page: %v", err)
	}
	t.Logf("500 keys: %d KB, %d KB packed", len(plain.body)/1024, len(packed.body)/1024)
}
