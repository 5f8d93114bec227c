package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Limits of one request. Everything a client sends is small, but for the names of many keys.
const (
	maxHeader = 16 << 10 // bytes
	maxBody   = 64 << 10 // bytes
	// maxKeysBody is for a request that names keys, in bytes: ten thousand of them, with the longest names.
	maxKeysBody = 2 << 20
	readTimeout = 5 * time.Second
	idleTimeout = 30 * time.Second
	// writeTimeout applies to one answer, or one piece of a stream: the server cuts off
	// a reader that takes nothing for so long.
	writeTimeout = 30 * time.Second
	// stopTimeout is how long Serve waits for requests under way.
	stopTimeout = 5 * time.Second
	// maxSlow is how many slow requests (to the HSM, the vaults or the whole store) run
	// at once for readers, and how many for operators, so that no reader makes an
	// operator wait.
	maxSlow = 2
)

// host is the only Host that a request may name, so that a browser lured to a proxy of
// the socket gets nowhere.
const host = "keyd"

// Server answers on the control socket.
type Server struct {
	backend   Backend
	authorise atomic.Pointer[Authoriser]
	log       *slog.Logger
	metrics   *metrics
	logins    LoginFinder // nil: nobody's login is known
	host      string      // this host's name among several; "": there is one
	// Each holds one token per running slow request, of readers and of operators.
	slowRead, slowAct chan struct{}
}

// NewServer registers its metrics with reg.
func NewServer(b Backend, a Authoriser, log *slog.Logger, reg prometheus.Registerer) *Server {
	s := &Server{backend: b, log: log, metrics: newMetrics(reg),
		slowRead: make(chan struct{}, maxSlow), slowAct: make(chan struct{}, maxSlow)}
	s.Admit(a)
	return s
}

// Admit has another authoriser decide from the next request on.
func (s *Server) Admit(a Authoriser) { s.authorise.Store(&a) }

// OnHost has the server say on which host a request came in. Call it before Serve.
func (s *Server) OnHost(name string) { s.host = name }

// Serve answers on l, a unix socket's listener, until ctx ends, and closes l.
// Streams end with ctx; other requests get 5 seconds to finish. It returns nil
// after an end by ctx.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	counted := newConns(s.metrics)
	ending := make(chan struct{})
	hs := &http.Server{
		Handler:           s.handler(ending),
		ReadHeaderTimeout: readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		ConnContext:       withPeer,
		ConnState:         counted.changed,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	// The streams end once nobody can connect any more: whoever follows events must not come back to this server.
	hs.RegisterOnShutdown(func() { close(ending) })
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { stopped <- shutdown(hs) })
	err := hs.Serve(limited{l, counted})
	if stop() || !errors.Is(err, http.ErrServerClosed) {
		return errors.Join(fmt.Errorf("control socket: %w", err), hs.Close())
	}
	return <-stopped
}

func shutdown(hs *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := hs.Shutdown(ctx); err != nil {
		return hs.Close()
	}
	return nil
}

func (s *Server) handler(ending <-chan struct{}) http.Handler {
	mux := http.NewServeMux()
	for _, r := range routes() {
		mux.Handle(r.pattern, s.guard(r, ending))
	}
	return mux
}

// guard admits only authorised callers, and counts results.
func (s *Server) guard(rt route, ending <-chan struct{}) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{Server: s, w: &written{ResponseWriter: w}, r: r, rc: http.NewResponseController(w), ending: ending}
		kind := kindOK
		if err := c.do(rt); err != nil {
			kind = c.fail(rt, err)
		}
		s.metrics.requests.WithLabelValues(rt.name, kind).Inc()
	})
}

// call is one request under way.
type call struct {
	*Server
	w     *written
	r     *http.Request
	rc    *http.ResponseController
	actor Actor
	act   bool // the actor may act
	// ending is closed when the server stops: a stream ends then, while other
	// requests finish.
	ending <-chan struct{}
}

// written remembers whether an answer has begun.
type written struct {
	http.ResponseWriter
	begun bool
}

func (w *written) WriteHeader(code int) {
	w.begun = true
	w.ResponseWriter.WriteHeader(code)
}

func (w *written) Write(b []byte) (int, error) {
	w.begun = true
	return w.ResponseWriter.Write(b)
}

func (c *call) do(rt route) error {
	if err := c.authorised(rt); err != nil {
		return err
	}
	if rt.slow {
		slots := c.slowRead
		if c.act {
			slots = c.slowAct
		}
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		case <-c.r.Context().Done():
			return c.r.Context().Err()
		}
	}
	return rt.serve(c, WithActor(c.r.Context(), c.actor))
}

func (c *call) authorised(rt route) error {
	if c.r.Host != host {
		return &RefusedError{fmt.Sprintf("the control socket answers only to the host %q", host)}
	}
	if _, browser := c.r.Header["Origin"]; browser {
		return &RefusedError{"the control socket does not answer web pages"}
	}
	p, ok := c.r.Context().Value(peerKey{}).(peer)
	if !ok {
		return &RefusedError{"the peer of this connection is not known"}
	}
	actor, gids := p.identify()
	actor.Host = c.host
	c.actor = actor
	read, act := (*c.authorise.Load())(p.uid, gids)
	c.act = act
	switch {
	case rt.acts && !act:
		return &RefusedError{fmt.Sprintf("%s may not %s: only root, the daemon's own user and the configured "+
			"operators may", actor.user(), rt.what)}
	case !read:
		return &RefusedError{fmt.Sprintf("%s may not %s: that takes membership of the daemon's group", actor.user(),
			rt.what)}
	}
	if rt.acts && c.logins != nil {
		c.findLogin(c.r.Context(), rt, p)
	}
	return nil
}

// fail answers with the error and returns its kind. An answer that has begun
// carries it in the trailer.
func (c *call) fail(rt route, err error) string {
	f := failureOf(err)
	level := slog.LevelDebug
	if f.Kind == kindRefused {
		level = slog.LevelWarn
	}
	c.log.Log(c.r.Context(), level, "control request failed", "request", rt.name, "actor", c.actor.user(), "kind",
		f.Kind, "error", err)
	if c.w.begun {
		c.w.Header().Set(trailer, f.encode())
		return f.Kind
	}
	c.w.Header().Del("Trailer")
	if err := c.answer(f.status(), f); err != nil {
		c.log.Debug("control answer not sent", "request", rt.name, "error", err)
	}
	return f.Kind
}

// stream is a writer with a time limit for each piece.
type stream struct {
	c     *call
	flush bool
}

func (s stream) Write(b []byte) (int, error) {
	if err := s.c.rc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	n, err := s.c.w.Write(b)
	if err == nil && s.flush {
		err = s.c.rc.Flush()
	}
	return n, err
}

// begin declares the trailer that carries an error after the first piece.
func (c *call) begin(contentType string) {
	c.w.Header().Set("Content-Type", contentType)
	c.w.Header().Set("Trailer", trailer)
}
