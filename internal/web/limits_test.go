package web

import (
	"bufio"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// stuck is a client that reads nothing.
type stuck struct {
	http.ResponseWriter
	reached chan<- struct{}
	end     <-chan struct{}
}

func (s stuck) Write(p []byte) (int, error) {
	s.reached <- struct{}{}
	<-s.end
	return len(p), nil
}

func TestSlowReadersDoNotBlockThePages(t *testing.T) {
	for _, path := range []string{"/", "/keys/sa-cmk-key", "/runbooks"} {
		c := (&world{snapshot: threeKeys()}).config(t)
		c.Logger = slog.New(slog.DiscardHandler)
		h := routes(c, newFeed())
		reached, end := make(chan struct{}), make(chan struct{})
		t.Cleanup(func() { close(end) })
		for range 2 * renders {
			go h.ServeHTTP(stuck{httptest.NewRecorder(), reached, end}, httptest.NewRequest(http.MethodGet, path, nil))
			select {
			case <-reached:
			case <-time.After(10 * time.Second):
				t.Fatalf("%s: a page was not made while others were sent", path)
			}
		}
	}
}

func TestConnectionsBeyondTheLimitWaitForAPlace(t *testing.T) {
	addr := serve(t, (&world{}).config(t))
	var open []net.Conn
	for range maxConnections {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if err := healthy(conn, addr); err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
	}
	late, err := net.Dial("tcp", addr) // the kernel accepts it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { late.Close() })
	answered := make(chan error, 1)
	go func() { answered <- healthy(late, addr) }()
	select {
	case <-answered:
		t.Fatalf("%d connections are served", maxConnections+1)
	case <-time.After(300 * time.Millisecond): // an answer takes a few milliseconds
	}
	open[0].Close()
	select {
	case err := <-answered:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the place is not free")
	}
}

// healthy asks on a connection that stays open.
func healthy(conn net.Conn, addr string) error {
	if _, err := conn.Write([]byte("GET /healthz HTTP/1.1\r\nHost: " + addr + "\r\n\r\n")); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err == nil {
		err = resp.Body.Close()
	}
	return err
}
