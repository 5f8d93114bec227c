package vault

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/keyd-project/keyd/internal/ownership"
)

// NewTransport makes the transport for vaults and sign-in. It takes proxies from HTTPS_PROXY, HTTP_PROXY and
// NO_PROXY, requires TLS 1.2 or newer, and limits the time of every phase. It trusts the system's authorities, and
// those in caFile (PEM) unless that is "".
func NewTransport(caFile string) (*http.Transport, error) {
	roots, err := loadRoots(caFile)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		OnProxyConnectResponse: refusedByProxy,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  60 * time.Second,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConns:           64,
		MaxIdleConnsPerHost:    16,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true,
		// A ping, not a request, discovers a connection that died silently.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
	}, nil
}

// loadRoots returns nil, Go's own default, when there is no file.
func loadRoots(caFile string) (*x509.CertPool, error) {
	if caFile == "" {
		return nil, nil
	}
	pem, err := ownership.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("azure.ca_file: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("load the system's certificate authorities: %w", err)
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("azure.ca_file %s: %w", caFile, errors.New("it holds no certificate in PEM form"))
	}
	return roots, nil
}

// HTTPClient makes a client that follows no redirects. Neither a vault nor a sign-in endpoint sends one, and a token
// must not follow one. Its errors show whether a request certainly never left.
func HTTPClient(transport *http.Transport) *http.Client {
	if transport.OnProxyConnectResponse == nil {
		transport.OnProxyConnectResponse = refusedByProxy
	}
	return &http.Client{
		Transport:     watched{transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
