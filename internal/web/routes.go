package web

import (
	"bytes"
	"compress/gzip"
	"embed"
	"html/template"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/keyd-project/keyd/docs"
	"github.com/keyd-project/keyd/internal/status"
)

//go:embed pages
var pages embed.FS

const (
	typeHTML = "text/html; charset=utf-8"
	typeText = "text/plain; charset=utf-8"

	// scrapes is how many gatherings of metrics may be under way at once.
	scrapes = 4
	// renders is how many pages may be made at once; the others wait.
	renders = 2
)

// files are served as they are.
var files = map[string]string{
	"style.css": "text/css; charset=utf-8",
	"live.js":   "text/javascript; charset=utf-8",
	"icon.svg":  "image/svg+xml",
}

// routes answers GET and HEAD, and nothing else.
func routes(c Config, f *feed) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(c.Registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(c.Logger.Handler(), slog.LevelError),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: scrapes,
		EnableOpenMetrics:   true,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if what := c.Stuck(); what != "" {
			text(w, http.StatusServiceUnavailable, "stuck: "+what)
			return
		}
		text(w, http.StatusOK, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if ok, why := c.Ready(); !ok {
			text(w, http.StatusServiceUnavailable, "not ready: "+why)
			return
		}
		text(w, http.StatusOK, "ok")
	})
	statusTemplate, keyTemplate, book := parse("status.html"), parse("key.html"), parse("runbooks.html")
	mux.Handle("GET /{$}", few(renders, func(w http.ResponseWriter, r *http.Request) {
		s := c.Snapshot()
		entries, err := c.entries(r.Context())
		render(w, r, c.Logger, statusTemplate, viewStatus(s, f.current(s.At), entries, err))
	}))
	mux.Handle("GET /keys/{name}", few(renders, func(w http.ResponseWriter, r *http.Request) {
		page, ok := viewOneKey(c.Snapshot(), r.PathValue("name"))
		if !ok {
			text(w, http.StatusNotFound, "there is no such key")
			return
		}
		render(w, r, c.Logger, keyTemplate, page)
	}))
	mux.HandleFunc("GET /runbooks", func(w http.ResponseWriter, r *http.Request) {
		render(w, r, c.Logger, book, sections(docs.Runbooks))
	})
	mux.HandleFunc("GET /events", f.events)
	for name, kind := range files {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, _ *http.Request) {
			body, err := pages.ReadFile("pages/" + name)
			if err != nil { // embedded
				text(w, http.StatusNotFound, err.Error())
				return
			}
			w.Header().Set("Content-Type", kind)
			_, _ = w.Write(body) // the reader has gone
		})
	}
	return mux
}

// few lets only n requests in at once.
func few(n int, next http.HandlerFunc) http.Handler {
	slots := make(chan struct{}, n)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			next(w, r)
		case <-r.Context().Done():
		}
	})
}

// parse reads one page and what all pages share.
func parse(name string) *template.Template {
	return template.Must(template.New(name).Funcs(template.FuncMap{
		"add":   func(a, b int) int { return a + b },
		"iso":   func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"stamp": func(t time.Time) string { return t.UTC().Format("2 Jan 2006 15:04:05") },
		"statemark": func(state string) string {
			switch state {
			case status.StateOK:
				return markDone
			case status.StateFailing, stateUnproven:
				return markFailed
			case status.StateRotating:
				return markDoing
			case status.StateHeld, status.StatePartial, status.StateNew, status.StateRetained:
				return state
			}
			return markWaiting
		},
		"severitymark": func(s status.Severity) string {
			if s == status.Critical {
				return markFailed
			}
			return markHeld
		},
	}).ParseFS(pages, "pages/frame.html", "pages/"+name))
}

func text(w http.ResponseWriter, code int, s string) {
	w.Header().Set("Content-Type", typeText)
	w.WriteHeader(code)
	_, _ = w.Write([]byte(s + "\n")) // the reader has gone
}

// render writes a page whole or not at all. Nothing in it is secret, so that its
// compressed length may be seen.
func render(w http.ResponseWriter, r *http.Request, log *slog.Logger, t *template.Template, data any) {
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		log.Error("a page could not be made", "page", t.Name(), "error", err.Error())
		text(w, http.StatusInternalServerError, "the page could not be made: see the log of keyd")
		return
	}
	w.Header().Set("Content-Type", typeHTML)
	w.Header().Set("Vary", "Accept-Encoding")
	if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") || strings.Contains(r.Header.Get("Accept-Encoding"), "gzip;q=0") {
		_, _ = b.WriteTo(w) // the reader has gone
		return
	}
	w.Header().Set("Content-Encoding", "gzip")
	packed := gzip.NewWriter(w)
	_, _ = b.WriteTo(packed) // the reader has gone
	_ = packed.Close()
}
