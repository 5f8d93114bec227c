package term_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/term"
)

const text = `{"attributes":{"enabled":false}}`

// service is a TLS server on loopback that counts the requests which arrive whole.
type service struct {
	*httptest.Server
	whole     atomic.Int64
	transport *http.Transport
}

func newService(t *testing.T, h2 bool) *service {
	s := &service{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err == nil && string(body) == text {
			s.whole.Add(1)
		}
		w.WriteHeader(http.StatusOK)
	}))
	s.EnableHTTP2 = h2
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	s.StartTLS()
	t.Cleanup(s.Close)
	s.transport = s.Client().Transport.(*http.Transport).Clone()
	t.Cleanup(s.transport.CloseIdleConnections)
	return s
}

// send sends one change through the gate.
func (s *service) send(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPatch, s.URL, strings.NewReader(text))
	if err != nil {
		return err
	}
	term.Gate(r)
	resp, err := (&http.Client{Transport: s.transport}).Do(r)
	if err == nil {
		err = resp.Body.Close()
	}
	return err
}

// clock is the host's clocks, which a test sets.
type clock struct {
	mu    sync.Mutex
	now   term.Instant
	asked int
	// leap is the question before which the process stands still for an hour; 0: never.
	leap int
}

func (c *clock) read() term.Instant {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked++; c.asked == c.leap {
		c.now = c.now.Add(time.Hour)
	}
	return c.now
}

func (c *clock) pass() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Hour)
}

func (c *clock) effect(ctx context.Context) context.Context {
	return term.WithEffect(ctx, term.Effect{What: "the disabling", Saved: begun, Deadline: begun.Add(time.Minute),
		Clock: c.read})
}

func protocols(t *testing.T, test func(*testing.T, *service)) {
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) { test(t, newService(t, h2)) })
	}
}

// never fails the test unless the request was refused, and did not arrive whole.
func (s *service) never(t *testing.T, err error) {
	t.Helper()
	if late := new(term.LateError); !errors.As(err, &late) {
		t.Errorf("%v, want that it is too late", err)
	}
	s.Close() // waits for the handlers
	if n := s.whole.Load(); n > 0 {
		t.Errorf("%d requests arrived whole after the deadline", n)
	}
}

func TestAChangeInTimeArrivesWhole(t *testing.T) {
	protocols(t, func(t *testing.T, s *service) {
		for range 2 { // on a new connection, and on an existing one
			if err := s.send((&clock{now: begun}).effect(t.Context())); err != nil {
				t.Fatal(err)
			}
		}
		if n := s.whole.Load(); n != 2 {
			t.Errorf("%d requests arrived whole, want 2", n)
		}
	})
}

func TestAChangeThatWaitedTooLongForAConnectionNeverLeaves(t *testing.T) {
	protocols(t, func(t *testing.T, s *service) {
		c := &clock{now: begun}
		s.transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c.pass()
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}
		s.never(t, s.send(c.effect(t.Context())))
	})
}

// The process may stand still before the first byte of a change, or between the first and the last.
func TestAProcessThatStandsStillNeverCompletesAChange(t *testing.T) {
	for _, leap := range []int{1, 2} {
		protocols(t, func(t *testing.T, s *service) {
			s.never(t, s.send((&clock{now: begun, leap: leap}).effect(t.Context())))
		})
	}
}

func TestAChangeThatAProxyHeldUpNeverLeaves(t *testing.T) {
	protocols(t, func(t *testing.T, s *service) {
		c := &clock{now: begun}
		proxy, err := url.Parse("http://" + stallingProxy(t, c.pass))
		if err != nil {
			t.Fatal(err)
		}
		s.transport.Proxy = http.ProxyURL(proxy)
		s.never(t, s.send(c.effect(t.Context())))
	})
}

// stallingProxy takes a CONNECT, holds it up, and then lets everything through.
func stallingProxy(t *testing.T, stall func()) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go tunnel(in, stall)
		}
	}()
	return l.Addr().String()
}

func tunnel(in net.Conn, stall func()) {
	defer in.Close()
	r := bufio.NewReader(in)
	connect, err := http.ReadRequest(r)
	if err != nil {
		return
	}
	out, err := net.Dial("tcp", connect.Host)
	if err != nil {
		return
	}
	defer out.Close()
	stall()
	if _, err := io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	go func() { _, _ = io.Copy(out, r) }()
	_, _ = io.Copy(in, out)
}

// net/http sends a change anew if the connection that it took was closed meanwhile.
func TestAChangeThatIsBegunAnewStillHasItsDeadline(t *testing.T) {
	c := &clock{now: begun}
	r, err := http.NewRequestWithContext(c.effect(t.Context()), http.MethodPut, "https://vault.test",
		strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	term.Gate(r)
	if got, err := io.ReadAll(r.Body); err != nil || string(got) != text {
		t.Fatalf("%q, %v", got, err)
	}
	c.pass()
	again, err := r.GetBody()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(again); err == nil || len(got) > 0 {
		t.Errorf("%q leaves after the deadline", got)
	}
}

func TestOnceTheLastByteHasLeftNothingIsRefused(t *testing.T) {
	c := &clock{now: begun}
	r, err := http.NewRequestWithContext(c.effect(t.Context()), http.MethodPut, "https://vault.test",
		strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	term.Gate(r)
	if _, err := io.ReadFull(r.Body, make([]byte, len(text))); err != nil {
		t.Fatal(err)
	}
	c.pass()
	if n, err := r.Body.Read(make([]byte, 8)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("%d, %v: the change may have happened, and an error says that it did not", n, err)
	}
}
