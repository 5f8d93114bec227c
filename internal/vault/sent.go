package vault

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
)

// watched is net/http's transport, which tells when a request got a connection. A
// request that got none was certainly not sent: name, proxy or TLS stood in the way.
type watched struct{ *http.Transport }

// RoundTrip marks the error of a request that never got a connection.
func (t watched) RoundTrip(r *http.Request) (*http.Response, error) {
	var connected atomic.Bool
	trace := &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
		// Never without the former, but it costs nothing to be sure.
		WroteHeaderField: func(string, []string) { connected.Store(true) },
	}
	resp, err := t.Transport.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
	if err != nil && !connected.Load() {
		err = &neverLeft{err}
	}
	return resp, err
}

// neverLeft is the error of a request that got no connection.
type neverLeft struct{ err error }

func (e *neverLeft) Error() string { return e.err.Error() }

func (e *neverLeft) Unwrap() error { return e.err }

// neverSent reports whether err arose before the first byte of a request could
// leave: while resolving, connecting or shaking hands, with a proxy or behind it.
// net/http repeats a request on a fresh connection only when nothing of it was written
// before.
func neverSent(err error) bool {
	var (
		early *neverLeft
		proxy *proxyRefusal
		dns   *net.DNSError
		op    *net.OpError
		cert  *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &early), errors.As(err, &proxy), errors.As(err, &dns), errors.As(err, &cert):
		return true
	case errors.As(err, &op):
		return op.Op == "dial" || op.Op == "proxyconnect"
	}
	return false
}
