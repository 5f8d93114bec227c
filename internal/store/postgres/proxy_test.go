package postgres_test

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// proxy is between the engine and the server.
type proxy struct {
	server string
	listen net.Listener

	mu       sync.Mutex
	onCommit func(*passage) // called in place of passing on a COMMIT; nil: it is passed on
	open     []net.Conn
}

// passage is one connection through the proxy.
type passage struct {
	client, server net.Conn
	commit         []byte
}

// newProxy listens until the test ends.
func newProxy(t *testing.T, server string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{server: server, listen: l}
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, c := range p.open {
			_ = c.Close()
		}
	})
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go p.pass(client)
		}
	}()
	return p
}

// url is the server's URL by way of the proxy.
func (p *proxy) url(url string) string {
	return strings.Replace(url, p.server, p.listen.Addr().String(), 1)
}

// atCommit says what becomes of each COMMIT from now on.
func (p *proxy) atCommit(fn func(*passage)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onCommit = fn
}

func (p *proxy) pass(client net.Conn) {
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		_ = client.Close()
		return
	}
	p.mu.Lock()
	p.open = append(p.open, client, server)
	p.mu.Unlock()
	go func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	}()
	buffer := make([]byte, 1<<16)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			_ = server.Close()
			return
		}
		p.mu.Lock()
		onCommit := p.onCommit
		p.mu.Unlock()
		if onCommit != nil && bytes.Contains(buffer[:n], []byte("COMMIT\x00")) {
			onCommit(&passage{client, server, bytes.Clone(buffer[:n])})
			return
		}
		if _, err := server.Write(buffer[:n]); err != nil {
			_ = client.Close()
			return
		}
	}
}
