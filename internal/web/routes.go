package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"embed"
	"errors"
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

	// scrapes is how many scrapes of the metrics may run at once.
	scrapes = 4
	// renders is how many pages may be rendered at once; the others wait.
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
	turns := make(turns, renders)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		render(w, r, c.Logger, turns, statusTemplate, func() (any, bool) {
			sel := selectionOf(r)
			s := c.Snapshot(sel)
			entries, err := c.entries(r.Context())
			return viewStatus(s, sel, f.current(s), entries, err), true
		})
	})
	mux.HandleFunc("GET /keys/{name}", func(w http.ResponseWriter, r *http.Request) {
		render(w, r, c.Logger, turns, keyTemplate,
			func() (any, bool) {
				name := r.PathValue("name")
				entries, err := c.entriesOf(r.Context(), name)
				return viewOneKey(c.Snapshot(status.Selection{Only: []string{name}}), name, entries, err)
			})
	})
	mux.HandleFunc("GET /runbooks", func(w http.ResponseWriter, r *http.Request) {
		render(w, r, c.Logger, turns, book, func() (any, bool) { return viewBook(docs.Runbooks), true })
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

// turns limits how many pages are rendered at once to its capacity.
type turns chan struct{}

// take runs a function in its turn; it does nothing once ctx has ended.
func (t turns) take(ctx context.Context, do func()) {
	select {
	case t <- struct{}{}:
		defer func() { <-t }()
		do()
	case <-ctx.Done():
	}
}

// parse reads one page and what all pages share.
func parse(name string) *template.Template {
	return template.Must(template.New(name).Funcs(template.FuncMap{
		"add":   func(a, b int) int { return a + b },
		"iso":   func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"stamp": stamp,
		"statemark": func(state string) string {
			switch state {
			case status.StateOK:
				return markDone
			case status.StateFailing, status.StateUnproven, status.StateTrouble:
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

// render writes a page whole or not at all. view returns its content, or false if the key does
// not exist. A page is rendered in its turn and sent afterwards, because a reader may be slow.
// Nothing in it is secret, so its compressed length reveals nothing.
func render(w http.ResponseWriter, r *http.Request, log *slog.Logger, made turns, t *template.Template,
	view func() (any, bool)) {
	pack := accepts(r, "gzip")
	var page []byte
	var known bool
	var err error
	made.take(r.Context(), func() {
		var data any
		if data, known = view(); known {
			page, err = fill(t, data, pack)
		}
	})
	switch {
	case r.Context().Err() != nil: // the reader has gone
	case !known:
		text(w, http.StatusNotFound, "there is no such key")
	case err != nil:
		log.Error("a page could not be made", "page", t.Name(), "error", err.Error())
		text(w, http.StatusInternalServerError, "the page could not be made: see keyd's log")
	default:
		w.Header().Set("Content-Type", typeHTML)
		w.Header().Set("Vary", "Accept-Encoding")
		if pack {
			w.Header().Set("Content-Encoding", "gzip")
		}
		_, _ = w.Write(page) // the reader has gone
	}
}

func accepts(r *http.Request, coding string) bool {
	accepted := r.Header.Get("Accept-Encoding")
	return strings.Contains(accepted, coding) && !strings.Contains(accepted, coding+";q=0")
}

func fill(t *template.Template, data any, pack bool) ([]byte, error) {
	var b bytes.Buffer
	if !pack {
		err := t.Execute(&b, data)
		return b.Bytes(), err
	}
	packed := gzip.NewWriter(&b)
	err := errors.Join(t.Execute(packed, data), packed.Close())
	return b.Bytes(), err
}
