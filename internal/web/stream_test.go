package web

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// dialer makes a client's connection.
type dialer = func(ctx context.Context, network, addr string) (net.Conn, error)

// pipes is a listener without a network, so that the clock of a synctest bubble goes on while a connection is quiet.
type pipes struct {
	net.Listener // only its address
	conns        chan net.Conn
	closed       chan struct{}
}

// onPipes replaces the server's listener.
func onPipes(t *testing.T, s *Server) dialer {
	t.Helper()
	if err := s.listener.Close(); err != nil {
		t.Fatal(err)
	}
	p := &pipes{s.listener, make(chan net.Conn), make(chan struct{})}
	s.listener = p
	return func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		p.conns <- theirs
		return ours, nil
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	close(p.closed)
	return nil
}

func TestAStreamOutlivesTheLimitsOfOrdinaryAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := (&world{}).config(t)
		l := newLoop(&c)
		s, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		dial := onPipes(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- s.Serve(ctx) }()
		reader := followOver(t, s.Addr().String(), dial)
		read := make(chan struct{})
		go func() {
			defer close(read)
			if w, ok := reader.next(); !ok || w.Key != "k" {
				t.Errorf("%+v, %v", w, ok)
			}
		}()
		time.Sleep(4 * max(s.http.ReadTimeout, s.http.WriteTimeout))
		l.happen(t, done("k", 1, "pin", ""))
		<-read
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

func TestStreamsAndGoroutinesEndWithTheServer(t *testing.T) {
	t.Run("with events", func(t *testing.T) { endsWithTheServer(t, func(c *Config) { newLoop(c) }) })
	t.Run("without", func(t *testing.T) { endsWithTheServer(t, func(*Config) {}) })
}

func endsWithTheServer(t *testing.T, change func(*Config)) {
	synctest.Test(t, func(t *testing.T) { // it fails if a goroutine is left
		c := (&world{}).config(t)
		change(&c)
		s, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		dial := onPipes(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- s.Serve(ctx) }()
		var readers sync.WaitGroup
		for range 5 {
			reader := followOver(t, s.Addr().String(), dial)
			readers.Go(func() {
				if _, ok := reader.next(); ok {
					t.Error("an event of nothing")
				}
				if err := reader.in.Err(); err != nil {
					t.Errorf("the stream was cut off rather than ended: %v", err)
				}
			})
		}
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		readers.Wait()
	})
}
