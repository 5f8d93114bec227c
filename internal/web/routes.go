package web

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/keyd-project/keyd/docs"
)

//go:embed status.html
var statusHTML string

//go:embed runbooks.html
var runbooksHTML string

//go:embed style.css
var styleCSS string

const (
	typeHTML = "text/html; charset=utf-8"
	typeCSS  = "text/css; charset=utf-8"
	typeText = "text/plain; charset=utf-8"

	// scrapes is how many gatherings of metrics may be under way at once.
	scrapes = 4
)

// routes answers GET and HEAD, and nothing else.
func routes(c Config) http.Handler {
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
	page := template.Must(template.New("status").Funcs(template.FuncMap{"at": at, "short": short}).Parse(statusHTML))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		render(w, c.Logger, page, c.Snapshot())
	})
	book := template.Must(template.New("runbooks").Parse(runbooksHTML))
	mux.HandleFunc("GET /runbooks", func(w http.ResponseWriter, _ *http.Request) {
		render(w, c.Logger, book, sections(docs.Runbooks))
	})
	mux.HandleFunc("GET /style.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", typeCSS)
		fmt.Fprint(w, styleCSS)
	})
	return mux
}

func text(w http.ResponseWriter, code int, s string) {
	w.Header().Set("Content-Type", typeText)
	w.WriteHeader(code)
	fmt.Fprintln(w, s)
}

// render writes a page whole or not at all.
func render(w http.ResponseWriter, log *slog.Logger, t *template.Template, data any) {
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		log.Error("a page could not be made", "page", t.Name(), "error", err.Error())
		text(w, http.StatusInternalServerError, "the page could not be made: see the log of keyd")
		return
	}
	w.Header().Set("Content-Type", typeHTML)
	_, _ = b.WriteTo(w) // the reader has gone
}

// at writes a time in UTC, to the second.
func at(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

// short is the beginning of a version or fingerprint, for tables.
func short(s string) string {
	if len(s) > 8 {
		return s[:8] + "…"
	}
	return s
}
