package vault

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"

	"github.com/keyd-project/keyd/internal/term"
)

// watched wraps net/http's transport and notes when a request gets a connection. A request without a connection was
// certainly not sent: the name, the proxy or TLS failed.
type watched struct{ *http.Transport }

// RoundTrip marks the error of a request that never got a connection.
func (t watched) RoundTrip(r *http.Request) (*http.Response, error) {
	var connected atomic.Bool
	trace := &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
		// This never happens without the former, but the check costs nothing.
		WroteHeaderField: func(string, []string) { connected.Store(true) },
	}
	resp, err := t.Transport.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
	if err != nil && !connected.Load() {
		err = &neverLeft{err}
	}
	return resp, err
}

// neverLeft wraps the error of a request that got no connection.
type neverLeft struct{ err error }

func (e *neverLeft) Error() string { return e.err.Error() }

func (e *neverLeft) Unwrap() error { return e.err }

// neverSent reports whether err happened before a request could leave whole: during name resolution, connecting or the
// TLS handshake, with a proxy or behind it, or because its deadline was over. net/http repeats a request on a new
// connection only if it has written nothing of it before.
func neverSent(err error) bool {
	var (
		late  *term.LateError
		early *neverLeft
		proxy *proxyRefusal
		dns   *net.DNSError
		op    *net.OpError
		cert  *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &late), errors.As(err, &early), errors.As(err, &proxy), errors.As(err, &dns),
		errors.As(err, &cert):
		return true
	case errors.As(err, &op):
		return op.Op == "dial" || op.Op == "proxyconnect"
	}
	return false
}
