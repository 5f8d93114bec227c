package control

import (
	"bufio"
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// answerWriter is a ResponseRecorder with the deadlines that a connection has.
type answerWriter struct{ *httptest.ResponseRecorder }

func (answerWriter) SetReadDeadline(time.Time) error  { return nil }
func (answerWriter) SetWriteDeadline(time.Time) error { return nil }

// Whatever request arrives, nothing panics, a reader never acts, and the daemon gets an operator's text only as one
// printable line.
func FuzzServer(f *testing.F) {
	for _, r := range routes() {
		f.Add([]byte(r.pattern + " HTTP/1.1\r\nHost: keyd\r\nContent-Length: 0\r\n\r\n"))
	}
	for path, body := range map[string]string{
		"/v1/rotate":      `{"keys":["a"],"reason":"drill","compromise":true,"without":["weu"]}`,
		"/v1/pause":       `{"key":"a","reason":"x\u001b[2J"}`,
		"/v1/resume":      `{"key":"a/../b","reason":"ok"}`,
		"/v1/adopt":       `{"key":"a","reason":"ok","token":"t1"}`,
		"/v1/enable":      `{"key":"a","version":"0123456789abcdef0123456789abcdef","reason":"ok"}`,
		"/v1/retirements": `[{"key":"a","rule":{"disable_after":1},"vaults":["https://a"]}]`,
	} {
		f.Add([]byte("POST " + path + " HTTP/1.1\r\nHost: keyd\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(body)))
	}
	f.Add([]byte("GET /v1/audit?from=0&key=a%00 HTTP/1.1\r\nHost: keyd\r\n\r\n"))
	f.Add([]byte("POST http://keyd/v1/../v1//backup HTTP/1.0\r\nHost: keyd\r\nOrigin: null\r\n\r\n"))
	f.Add([]byte("CONNECT keyd:443 HTTP/1.1\r\nHost: keyd\r\n\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for name, may := range map[string]Authoriser{
			"a stranger": func(uint32, []uint32) (read, act bool) { return false, false },
			"a reader":   func(uint32, []uint32) (read, act bool) { return true, false },
			"everyone":   everyone,
		} {
			r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(text)))
			if err != nil {
				return
			}
			backend := newFake()
			server := NewServer(backend, may, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
			stopped := make(chan struct{})
			close(stopped) // a stream of events ends at once
			w := answerWriter{httptest.NewRecorder()}
			server.handler(stopped).ServeHTTP(w,
				r.WithContext(context.WithValue(t.Context(), peerKey{}, peer{uid: 1, gid: 1})))

			did := backend.notes()
			if name != "everyone" && len(did) > 0 {
				t.Errorf("%s did %q by %q", name, did, text)
			}
			if name == "a stranger" && w.Code < 300 {
				t.Errorf("a stranger got %d by %q", w.Code, text)
			}
			for _, line := range did {
				if strings.ContainsAny(line, "\r\n\x1b\x00") {
					t.Errorf("the daemon received %q", line)
				}
			}
		}
	})
}

// chunk is body in the chunked transfer coding (RFC 9112 section 7.1).
func chunk(body string) string {
	var b strings.Builder
	for _, c := range []byte(body) {
		b.WriteString("1\r\n" + string(rune(c)) + "\r\n")
	}
	return b.String() + "0\r\n\r\n"
}
