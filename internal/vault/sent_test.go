package vault

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// In both protocols, keyd must never treat a request that reached a server as one that did not.
func TestARequestThatWasSentNeverCountsAsUnsent(t *testing.T) {
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2.0": true} {
		t.Run(name, func(t *testing.T) {
			var protocol string
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				protocol = r.Proto
				_, _ = io.Copy(io.Discard, r.Body)
				panic(http.ErrAbortHandler)
			}))
			server.EnableHTTP2 = h2
			server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
			server.StartTLS()
			defer server.Close()
			transport := server.Client().Transport.(*http.Transport).Clone()
			defer transport.CloseIdleConnections()
			client := HTTPClient(transport)
			for try := range 2 { // on a new connection, and on an existing one
				r, err := http.NewRequestWithContext(
					t.Context(), http.MethodPut, server.URL, strings.NewReader("body"),
				)
				if err != nil {
					t.Fatal(err)
				}
				if _, err = client.Do(r); err == nil || neverSent(err) {
					t.Errorf("try %d: %v counts as never sent", try, err)
				}
			}
			if protocol != name {
				t.Errorf("spoken was %s", protocol)
			}
		})
	}
}

// A handshake that ends early is not the vault's answer.
func TestARequestWithoutAConnectionWasNotSent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1)) // of the ClientHello
			c.Close()
		}
	}()
	transport, err := NewTransport("")
	if err != nil {
		t.Fatal(err)
	}
	transport.Proxy = nil
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(
		t.Context(),
		http.MethodPut,
		"https://"+l.Addr().String(),
		strings.NewReader("body"),
	)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = HTTPClient(transport).Do(r); err == nil || !neverSent(err) {
		t.Errorf("%v counts as sent", err)
	}
}
