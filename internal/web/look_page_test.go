//go:build page

package web

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/chromedp"

	"github.com/keyd-project/keyd/internal/status"
)

const isLive = `document.getElementById("live").textContent === "live"`

// Every world on a desktop, at night, and on a phone: the browser complains about nothing, nothing is wider than the
// screen, and every part is there.
func TestPageOfEveryWorldOnEveryScreen(t *testing.T) {
	for _, w := range shownWorlds() {
		origin := serveShown(t, w)
		for _, v := range []struct {
			name string
			view
		}{{"", desktop}, {"-dark", view{width: 1200, height: 900, dark: true}}, {"-phone", phone}} {
			t.Run(w.name+v.name, func(t *testing.T) {
				b := newTab(t, v.view)
				b.open(origin + "/")
				b.wait("the page is live", isLive)
				b.wantNoSideScroll()
				want := min(len(w.snapshot.Keys), status.FewKeys)
				if n := eval[int](b, `document.querySelectorAll("svg.timeline, svg.mini").length`); n != want {
					t.Errorf("%d timelines, want %d", n, want)
				}
				n := eval[int](b, `document.querySelectorAll("article.problem, .more > li").length`)
				if n != len(w.snapshot.Problems) {
					t.Errorf("%d problems are shown of %d", n, len(w.snapshot.Problems))
				}
				ground := eval[string](b, `getComputedStyle(document.body).backgroundColor`)
				if dark := ground == "rgb(18, 21, 24)"; dark != v.dark {
					t.Errorf("the page is %s", ground)
				}
				b.shoot(w.name + v.name)
				b.wantClean(origin)
			})
		}
	}
}

// wantNoSideScroll requires that nothing is wider than the screen.
func (b *tab) wantNoSideScroll() {
	b.t.Helper()
	if over := eval[int](b, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); over > 0 {
		b.t.Errorf("the page is %d px wider than the screen", over)
	}
	out := eval[[]string](b, `[...document.querySelectorAll("main *")].filter((e) => !e.closest(".hidden, .sprite"))
		.filter((e) => { const r = e.getBoundingClientRect();
			return r.width && (r.right > innerWidth + 1 || r.left < -1); })
		.slice(0, 5).map((e) => e.outerHTML.slice(0, 120))`)
	for _, e := range out {
		b.t.Errorf("out of the screen: %s", e)
	}
}

func TestPageReadsWellWithoutJavaScript(t *testing.T) {
	for _, w := range shownWorlds()[:6] {
		origin := serveShown(t, w)
		b := newTab(t, view{width: 360, height: 740, noScript: true})
		b.open(origin + "/")
		b.wantNoSideScroll()
		text := eval[string](b, `document.body.innerText`)
		for _, part := range []string{"As of 25 Nov 2026 09:41:00", "Problems", "Now", "Keys", "Vaults and HSM",
			"Last audit entries"} {
			if !strings.Contains(text, part) {
				t.Errorf("%s: %q is not shown", w.name, part)
			}
		}
		if w.name == "rotating" && (!strings.Contains(text, "sql-tde-key, generation 4") ||
			!strings.Contains(text, "Proven in contoso-weu")) {
			t.Errorf("%s: the steps so far are not shown:\n%s", w.name, text)
		}
		if eval[string](b, `document.getElementById("live").textContent`) != "" {
			t.Errorf("%s: a script has run", w.name)
		}
		b.wantClean(origin)
	}
}

func TestPageOfAKeyAndRunbooksLookWell(t *testing.T) {
	origin := serveShown(t, shown{snapshot: everyTrouble()})
	for _, path := range []string{"/keys/compromised", "/keys/discarded", "/keys/new", "/keys/held-foreign-version",
		"/runbooks"} {
		for name, v := range map[string]view{"": desktop, "-phone": phone} {
			b := newTab(t, v)
			b.open(origin + path)
			b.wantNoSideScroll()
			b.wantAccessible()
			b.shoot(strings.ReplaceAll(path[1:], "/", "-") + name)
			b.wantClean(origin)
		}
	}
}

// One click on a command selects all of it and nothing else, and the raw error shows only when somebody asks for it.
func TestPageCommandsCanBeCopiedAndRawErrorsAreFolded(t *testing.T) {
	origin := serveShown(t, shown{snapshot: everyTrouble()})
	b := newTab(t, view{width: 1200, height: 900, noEvents: true})
	b.open(origin + "/")
	const command = `document.querySelector("#problems .command")`
	if n := eval[int](b, `document.querySelectorAll("#problems .command").length`); n < 5 {
		t.Errorf("only %d commands", n)
	}
	b.do(chromedp.Click("#problems .command"))
	got := eval[string](b, `getSelection().toString().trim()`)
	if want := eval[string](b, command+`.textContent`); got != want {
		t.Errorf("a click selects %q of %q", got, want)
	}
	if eval[bool](b, `[...document.querySelectorAll(".raw p")].some((p) => p.checkVisibility())`) {
		t.Error("a raw error is not folded away")
	}
	b.do(chromedp.Click(".raw summary"))
	b.wait("the raw error shows", `document.querySelector(".raw p").checkVisibility()`)
}

func TestPageIsAccessible(t *testing.T) {
	for _, w := range shownWorlds() {
		origin := serveShown(t, w)
		b := newTab(t, desktop)
		b.open(origin + "/")
		b.wait("the page is live", isLive)
		b.wantAccessible()
	}
}

// wantAccessible checks by script and by the browser's accessibility tree what a screen
// reader needs: landmarks, headings in order, names, table headers.
func (b *tab) wantAccessible() {
	b.t.Helper()
	for _, c := range []struct{ what, script string }{
		{"html has a language", `document.documentElement.lang === "en"`},
		{"there is one main, one h1",
			`document.querySelectorAll("main").length === 1 && document.querySelectorAll("h1").length === 1`},
		{"no heading skips a level", `[...document.querySelectorAll("h1,h2,h3,h4")].every((h, i, all) => i === 0 || ` +
			`h.tagName[1] - all[i-1].tagName[1] <= 1)`},
		{"every id is there once", `new Set([...document.querySelectorAll("[id]")].map((e) => e.id)).size === ` +
			`document.querySelectorAll("[id]").length`},
		{"every reference leads somewhere", `[...document.querySelectorAll("[aria-labelledby]")].every((e) => ` +
			`document.getElementById(e.getAttribute("aria-labelledby")))`},
		{"every link on the page leads somewhere",
			`[...document.querySelectorAll('a[href^="#"]')].every((a) => document.getElementById(a.hash.slice(1)))`},
		{"every svg is named or hidden",
			`[...document.querySelectorAll("svg")].every((s) => s.closest('[aria-hidden="true"], [role="img"] svg, ` +
				`template') || s.getAttribute("role") === "img" && s.querySelector(":scope > title").textContent)`},
		{"every table has a caption and headers with a scope",
			`[...document.querySelectorAll("table")].every((t) => t.caption && t.querySelectorAll("th").length && ` +
				`[...t.querySelectorAll("th")].every((h) => h.scope))`},
		{"nothing takes the focus out of turn", `!document.querySelector('[tabindex]:not([tabindex="-1"])')`},
		{"nothing can be sent but a search for keys",
			`[...document.querySelectorAll("form")].every((f) => f.method === "get" && ` +
				`f.getAttribute("action") === "/") && !document.querySelector("select, textarea")`},
		{"every field has a label", `[...document.querySelectorAll("input")].every((i) => i.labels.length && i.form)`},
	} {
		if !eval[bool](b, c.script) {
			b.t.Errorf("it is not so that %s", c.what)
		}
	}
	tree, err := chromedp.Call(b.ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	if err != nil {
		b.t.Fatal(err)
	}
	roles := map[string]int{}
	for _, n := range tree.Nodes {
		if n.Ignored || n.Role == nil {
			continue
		}
		role := strings.Trim(string(n.Role.Value), `"`)
		roles[role]++
		named := n.Name != nil && strings.Trim(string(n.Name.Value), `" `) != ""
		if slices.Contains([]string{"image", "img", "link", "heading", "table", "region", "article"}, role) && !named &&
			role != "article" {
			b.t.Errorf("a %s has no name", role)
		}
	}
	for _, role := range []string{"main", "heading", "contentinfo", "banner"} {
		if roles[role] == 0 {
			b.t.Errorf("the browser finds no %s among %v", role, roles)
		}
	}
}

// The tab key alone reaches every link, each link shows that it has the focus, and the end of the page leads out.
func TestPageIsReachedByTheKeyboard(t *testing.T) {
	origin := serveShown(t, shown{snapshot: everyTrouble(), entries: entries()})
	b := newTab(t, desktop)
	b.open(origin + "/")
	b.wait("the page is live", isLive)
	want := eval[[]string](b, `[...document.querySelectorAll("a, summary")].filter((e) => `+
		`e.getClientRects().length).map((e) => e.textContent)`)
	for i, name := range want {
		b.do(chromedp.KeyEvent("\t"))
		got := eval[struct {
			Name    string `json:"name"`
			Outline string `json:"outline"`
			Shown   bool   `json:"shown"`
		}](b, `(() => { const e = document.activeElement, r = e.getBoundingClientRect();
			return {name: e.textContent, outline: getComputedStyle(e).outlineStyle,
				shown: r.width > 1 && r.top >= -1 && r.bottom <= innerHeight + 1}; })()`)
		if got.Name != name || got.Outline != "solid" || !got.Shown {
			t.Fatalf("after %d tabs the focus is on %+v, want %q", i+1, got, name)
		}
	}
	b.do(chromedp.KeyEvent("\t"))
	if eval[bool](b, `document.activeElement.tagName === "A"`) && len(want) > 1 {
		if name := eval[string](b, `document.activeElement.textContent`); name != want[0] {
			t.Errorf("the end of the page is no way out: the focus is on %q", name)
		}
	}
}

func TestPageSkipLinkSkips(t *testing.T) {
	origin := serveShown(t, shown{snapshot: threeKeys()})
	b := newTab(t, desktop)
	b.open(origin + "/")
	b.do(chromedp.KeyEvent("\t"), chromedp.KeyEvent("\r"))
	b.wait("the focus is on the content", `document.activeElement.id === "main"`)
}

// The policy is in force: the test tries what it forbids, and the browser reports that.
func TestPagePolicyIsInForce(t *testing.T) {
	origin := serveShown(t, shown{snapshot: threeKeys()})
	b := newTab(t, desktop)
	b.open(origin + "/")
	b.wait("the page is live", isLive)
	b.wantClean(origin)
	for _, script := range []string{
		`document.body.setAttribute("style", "color: red")`,
		`document.body.append(Object.assign(document.createElement("script"), {textContent: "document.title = ` +
			`'foreign'"}))`,
		`document.body.append(Object.assign(document.createElement("img"), {src: "http://127.0.0.1:1/x.png"}))`,
	} {
		b.mu.Lock()
		before := len(b.said)
		b.mu.Unlock()
		eval[bool](b, fmt.Sprintf(`(() => { %s; return true; })()`, script))
		b.wait("the script has had its effect", `new Promise((done) => setTimeout(() => done(true), 50))`)
		b.mu.Lock()
		said := strings.Join(b.said[before:], "\n")
		b.mu.Unlock()
		if !strings.Contains(said, "Content Security Policy") {
			t.Errorf("%s: the browser says only %q", script, said)
		}
	}
	if eval[string](b, "document.title") == "foreign" {
		t.Error("a foreign script has run")
	}
}
