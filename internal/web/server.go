package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	toolkit "github.com/prometheus/exporter-toolkit/web"
	"golang.org/x/net/netutil"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/status"
)

const (
	defaultListen = "127.0.0.1:9889"
	// shutdownTimeout is how long answers under way may take to finish.
	shutdownTimeout = 5 * time.Second
	maxHeaderBytes  = 16 << 10
	// maxConnections is how many connections are served at once; the others wait. So a
	// client cannot exhaust the daemon's memory or descriptors.
	maxConnections = 256
)

// Config configures a Server.
type Config struct {
	Listen        string // host:port; "": 127.0.0.1:9889
	WebConfigFile string // exporter-toolkit's web configuration (TLS, basic auth), or ""
	Registry      prometheus.Gatherer
	Snapshot      func(status.Selection) status.Snapshot
	// Events delivers what the loop does until ctx ends, and then closes the
	// channel; nil: no events.
	Events func(ctx context.Context) <-chan status.Event
	// Recent returns the last n entries of the audit chain, oldest first; nil: none.
	Recent func(ctx context.Context, n int) ([]status.Entry, error)
	// RecentOf returns the last n entries that are about one key, oldest first, as far as they are among the latest of
	// the chain; nil: none.
	RecentOf func(ctx context.Context, key string, n int) ([]status.Entry, error)
	// Ready reports whether keyd has observed once and can work, and if not, why. A
	// problem of one key shows in metrics, not in readiness.
	Ready func() (ok bool, why string)
	// Stuck names the loop that has stopped turning; "" if none has.
	Stuck  func() string
	Logger *slog.Logger
}

// Server answers on one listener.
type Server struct {
	listener net.Listener
	http     *http.Server
	config   string
	log      *slog.Logger
	feed     *feed
	events   func(ctx context.Context) <-chan status.Event
}

// New opens the listener. The error says what to change: the web configuration, or
// the address when it is taken.
func New(c Config) (*Server, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	listen := cmp.Or(c.Listen, defaultListen)
	reachable := !config.Web{Listen: listen}.Loopback()
	if err := CheckFile(c.WebConfigFile, reachable); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, taken(err)
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("web.listen %q: %w", listen, err), l.Close())
	}
	f := newFeed()
	handler := guard(routes(c, f), l.Addr(), host)
	if reachable {
		handler = armed(handler, c.WebConfigFile, c.Logger)
	}
	return &Server{
		feed:     f,
		events:   c.Events,
		listener: netutil.LimitListener(l, maxConnections),
		config:   c.WebConfigFile,
		log:      c.Logger,
		http: &http.Server{
			Handler:           handler,
			ReadHeaderTimeout: 5 * time.Second,
			ReadTimeout:       10 * time.Second,
			WriteTimeout:      30 * time.Second,
			IdleTimeout:       2 * time.Minute,
			MaxHeaderBytes:    maxHeaderBytes,
			ErrorLog:          slog.NewLogLogger(c.Logger.Handler(), slog.LevelDebug),
		},
	}, nil
}

// Addr is the address of the listener.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Close closes the listener of a Server that was never served.
func (s *Server) Close() error { return s.listener.Close() }

// Serve answers until ctx ends, then waits at most 5 seconds for answers under way. It
// returns nil after an ordinary end.
func (s *Server) Serve(ctx context.Context) error {
	following, stop := context.WithCancel(ctx)
	fed := s.follow(following)
	defer func() { stop(); <-fed }()
	served := make(chan error, 1)
	go func() {
		served <- toolkit.Serve(s.listener, s.http, &toolkit.FlagConfig{WebConfigFile: &s.config}, s.log)
	}()
	select {
	case err := <-served:
		return fmt.Errorf("serve metrics on %s: %w", s.Addr(), err)
	case <-ctx.Done():
	}
	s.feed.close() // and with it the answers that did not finish
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := s.http.Shutdown(ending); err != nil {
		s.http.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics on %s: %w", s.Addr(), err)
	}
	return nil
}

// follow feeds the page with events until ctx ends; fed is closed when it has ended.
func (s *Server) follow(ctx context.Context) (fed <-chan struct{}) {
	done := make(chan struct{})
	if s.events == nil {
		close(done)
		return done
	}
	events := s.events(ctx)
	go func() {
		defer close(done)
		s.feed.run(events)
	}()
	return done
}
