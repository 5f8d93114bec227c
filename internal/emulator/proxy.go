package emulator

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/emulator/arm"
)

const imdsHost = "169.254.169.254"

// serveProxy is the outer server: CONNECT for https, absolute URLs for http.
func (e *Emulator) serveProxy(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodConnect:
		e.serveConnect(w, r)
	case r.URL.Host == "":
		http.Error(w, "this is a proxy: set HTTPS_PROXY and HTTP_PROXY to its address and call https://<vault host>",
			http.StatusBadRequest)
	case hostOnly(r.URL.Host) == imdsHost:
		e.serveIMDS(w, r)
	case e.hosted.addr != "" && r.URL.Host == e.hosted.addr:
		e.serveHosted(w, r)
	default:
		e.escaped(r.URL.Host)
		http.Error(w, fmt.Sprintf("the emulator does not stand in for http://%s", r.URL.Host), http.StatusBadGateway)
	}
}

func (e *Emulator) serveConnect(w http.ResponseWriter, r *http.Request) {
	host := hostOnly(r.Host)
	if !e.knows(host) || !strings.HasSuffix(r.Host, ":443") {
		e.escaped(r.Host)
		http.Error(w, fmt.Sprintf("the emulator does not stand in for %s", r.Host), http.StatusBadGateway)
		return
	}
	f := e.rules.match(call{host: host, method: r.Method, operation: opConnect})
	if !e.wait(f) || (f.rule != nil && f.rule.Status == 0) {
		panic(http.ErrAbortHandler)
	}
	if f.rule != nil {
		http.Error(w, "the proxy refuses this connection", f.rule.Status)
		return
	}
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		http.Error(w, "CONNECT needs HTTP/1.1", http.StatusHTTPVersionNotSupported)
		return
	}
	// From here the server no longer counts this connection.
	e.running.Add(1)
	defer e.running.Done()
	conn, buffered, err := hijacker.Hijack()
	if err != nil {
		return
	}
	if _, err := conn.Write([]byte("HTTP/1.1 200 Connection Established\r\n\r\n")); err != nil {
		conn.Close()
		return
	}
	e.tunnels.push(tls.Server(&bufferedConn{Conn: conn, r: buffered.Reader}, &tls.Config{
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if !strings.EqualFold(hello.ServerName, host) {
				return nil, fmt.Errorf("CONNECT named %s, the TLS handshake names %q", host, hello.ServerName)
			}
			return e.ca.leaf(host)
		},
	}))
}

// serveTunnelled is the inner server: what came through a CONNECT.
func (e *Emulator) serveTunnelled(w http.ResponseWriter, r *http.Request) {
	host := hostOnly(r.Host)
	if r.TLS == nil || !strings.EqualFold(r.TLS.ServerName, host) {
		http.Error(w, "Host header and TLS server name differ", http.StatusMisdirectedRequest)
		return
	}
	if v := e.vaults[host]; v != nil {
		e.serveVault(w, r, v)
		return
	}
	switch host {
	case arm.Host:
		e.serveResources(w, r)
	case logsHost:
		e.serveLogs(w, r)
	default:
		e.serveSTS(w, r, host)
	}
}

func (e *Emulator) knows(host string) bool {
	return e.vaults[host] != nil || isLoginHost(host) || host == arm.Host || host == logsHost
}

// pause waits d of real time, or until Close; it says whether to go on.
func (e *Emulator) pause(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-e.done:
		return false
	}
}

// wait is over after the delay and when no rule holds the call any more; it reports
// false when the emulator closes.
func (e *Emulator) wait(f fault) bool {
	if !e.pause(f.delay) {
		return false
	}
	for _, over := range f.holds {
		select {
		case <-over:
		case <-e.done:
			return false
		}
	}
	return true
}

func hostOnly(hostport string) string {
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		hostport = h
	}
	return strings.ToLower(hostport)
}

// bufferedConn is a hijacked connection whose first bytes may already be read.
type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (c *bufferedConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// tunnelListener hands connections taken over from CONNECT to the inner server.
type tunnelListener struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newTunnelListener(addr net.Addr) *tunnelListener {
	return &tunnelListener{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *tunnelListener) push(c net.Conn) {
	select {
	case l.conns <- c:
	case <-l.done:
		c.Close()
	}
}

func (l *tunnelListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *tunnelListener) Addr() net.Addr { return l.addr }

func (l *tunnelListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}
