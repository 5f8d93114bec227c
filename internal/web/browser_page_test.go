//go:build page

package web

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/keyd-project/keyd/internal/status"
)

// The page in Debian's Chromium, which talks to this machine only.

// patience limits every wait.
const patience = 30 * time.Second

var shots = flag.String("shots", "", "the directory for pictures; a new one when it is empty")

// browser is one Chromium for all tests.
var browser context.Context

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		if *shots == "" {
			dir, err := os.MkdirTemp("", "keyd-pictures-")
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			*shots = dir
		}
		fmt.Println("pictures are in", *shots)
		if _, err := exec.LookPath("chromium"); err != nil {
			fmt.Fprintln(os.Stderr, "these tests need Chromium: make test-page installs it:", err)
			return 1
		}
		temp, err := os.MkdirTemp("", "keyd-chromium-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(temp)
		options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
			chromedp.ExecPath("chromium"),
			chromedp.Env("TMPDIR="+temp), // it leaves folders there
			chromedp.Flag("disable-quic", true),
			chromedp.Flag("disable-component-update", true),
			chromedp.Flag("disable-domain-reliability", true),
			chromedp.Flag("no-pings", true),
			chromedp.Flag("proxy-server", "direct://"),
			// No name but this machine's own resolves.
			chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
			chromedp.Flag("font-render-hinting", "none"),
			chromedp.Flag("hide-scrollbars", true),
		)
		allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
		defer stop()
		var end context.CancelFunc
		browser, end = chromedp.NewContext(allocator)
		defer end()
		if err := chromedp.Do(browser); err != nil {
			fmt.Fprintln(os.Stderr, "Chromium does not start:", err)
			return 1
		}
		return m.Run()
	}())
}

// view is how a tab looks at the page.
type view struct {
	width, height int64
	dark          bool
	noScript      bool
	noEvents      bool // the stream of events is blocked, so that nothing changes
}

var (
	desktop = view{width: 1200, height: 900}
	phone   = view{width: 360, height: 740}
)

// tab is one page in the browser.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	said     []string // what the browser complained about
	requests []string // of URLs
}

func newTab(t *testing.T, v view) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)
	b := &tab{t: t, ctx: ctx}
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatal(err)
	}
	scheme := "light"
	if v.dark {
		scheme = "dark"
	}
	b.do(
		chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
			_, err := chromedp.Call(ctx, log.Enable, cdp.Empty{})
			if err == nil {
				_, err = chromedp.Call(ctx, network.Enable, network.EnableParams{})
			}
			if err == nil {
				_, err = chromedp.Call(ctx, emulation.SetEmulatedMedia,
					emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme",
						Value: scheme}}})
			}
			if err == nil {
				_, err = chromedp.Call(ctx, emulation.SetScriptExecutionDisabled,
					emulation.SetScriptExecutionDisabledParams{Value: v.noScript})
			}
			return err
		}),
		chromedp.EmulateViewport(v.width, v.height, chromedp.EmulateScale(1)),
	)
	return b
}

func (b *tab) hear(ev any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch ev := ev.(type) {
	case *log.EventEntryAdded:
		b.said = append(b.said, ev.Entry.Text)
	case *runtime.EventExceptionThrown:
		b.said = append(b.said, ev.ExceptionDetails.Text)
	case *network.EventRequestWillBeSent:
		b.requests = append(b.requests, ev.Request.URL)
	}
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// open goes to a page and requires that it loads.
func (b *tab) open(url string) {
	b.t.Helper()
	resp, err := chromedp.Run(b.ctx, chromedp.NavigateResponse(url))
	if err != nil {
		b.t.Fatal(err)
	}
	if resp.Status != http.StatusOK {
		b.t.Fatalf("%s: %d", url, resp.Status)
	}
}

// eval runs a script in the page, through the developer tools and outside the page's policy.
func eval[T any](b *tab, script string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](script))
	if err != nil {
		b.t.Fatalf("%s: %v", script, err)
	}
	return v
}

// wait requires that a script's value becomes true.
func (b *tab) wait(what, script string) {
	b.t.Helper()
	if _, err := chromedp.Run(b.ctx, chromedp.Poll[bool](script, chromedp.WithPollingTimeout(patience))); err != nil {
		b.t.Fatalf("waiting until %s: %v; the page says:\n%s", what, err, eval[string](b, "document.body.innerText"))
	}
}

// wantClean requires that the browser complained about nothing, such as a breach of the policy, and contacted only
// this listener.
func (b *tab) wantClean(origin string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.said {
		b.t.Errorf("the browser says: %s", s)
	}
	for _, url := range b.requests {
		if !strings.HasPrefix(url, origin+"/") {
			b.t.Errorf("the page asks %s", url)
		}
	}
}

// shoot saves a picture of the page, cut at tallest, in the directory of pictures.
func (b *tab) shoot(name string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(*shots, name+".png"), b.picture(tallest), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// tallest is how much of a long page a picture shows, in CSS pixels.
const tallest = 4000

// picture returns the page as a PNG, at most this tall.
func (b *tab) picture(height float64) []byte {
	b.t.Helper()
	size := eval[[]float64](b, `[innerWidth, document.documentElement.scrollHeight]`)
	whole, surface := true, true
	shot, err := chromedp.Call(b.ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{
		CaptureBeyondViewport: &whole, FromSurface: &surface,
		Clip: &page.Viewport{Width: size[0], Height: min(size[1], height), Scale: 1},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return shot.Data
}

// shown is a world being served.
type shown struct {
	name     string
	snapshot status.Snapshot
	events   []status.Event
	entries  []status.Entry
}

func shownWorlds() []shown {
	rotating, events := rotatingNow()
	return []shown{
		{"no-keys", nothing(), nil, nil},
		{"three-keys", threeKeys(), nil, entries()},
		{"rotating", rotating, events, entries()},
		{"five-hundred-keys", manyKeys(500), nil, entries()},
		{"every-trouble", everyTrouble(), nil, entries()},
		{"hsm-down", hsmDown(), nil, entries()},
		{"hostile", hostile(), nil, nil},
	}
}

// serveShown serves a world and returns its origin.
func serveShown(t *testing.T, w shown) string {
	t.Helper()
	c := (&world{snapshot: w.snapshot}).config(t)
	c.Recent = func(context.Context, int) ([]status.Entry, error) { return w.entries, nil }
	c.RecentOf = func(_ context.Context, name string, _ int) ([]status.Entry, error) {
		return slices.DeleteFunc(slices.Clone(w.entries), func(e status.Entry) bool { return e.Key != name }), nil
	}
	c.Events = func(ctx context.Context) <-chan status.Event {
		events := make(chan status.Event, len(w.events))
		for _, e := range w.events {
			events <- e
		}
		context.AfterFunc(ctx, func() { close(events) })
		return events
	}
	return "http://" + serve(t, c)
}
