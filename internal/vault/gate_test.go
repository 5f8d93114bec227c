package vault_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/keyd-project/keyd/internal/vault"
)

// gate is a proxy in front of the emulator's, like a company's proxy. Once shut, it gives every CONNECT a fixed
// answer and closes the connection.
type gate struct {
	listener net.Listener
	upstream string // host and port

	mu      sync.Mutex
	refusal string
	shut    bool
	open    sync.WaitGroup
	conns   []net.Conn
}

func newGate(t *testing.T, upstream string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{listener: l, upstream: strings.TrimPrefix(upstream, "http://")}
	g.open.Go(g.accept)
	t.Cleanup(func() {
		l.Close()
		g.mu.Lock()
		for _, c := range g.conns {
			c.Close()
		}
		g.mu.Unlock()
		g.open.Wait()
	})
	return g
}

// never is the answer of a proxy that keeps its client waiting.
const never = "never"

// refuse shuts the gate with a raw answer; "" means no answer at all.
func (g *gate) refuse(answer string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut, g.refusal = true, answer
}

func (g *gate) accept() {
	for {
		c, err := g.listener.Accept()
		if err != nil {
			return
		}
		g.keep(c)
		g.open.Go(func() { g.serve(c) })
	}
}

func (g *gate) keep(c net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conns = append(g.conns, c)
}

func (g *gate) serve(c net.Conn) {
	defer c.Close()
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	g.mu.Lock()
	shut, refusal := g.shut, g.refusal
	g.mu.Unlock()
	if shut && refusal == never {
		_, _ = io.Copy(io.Discard, c) // until the client goes away
		return
	}
	if shut {
		_, _ = io.WriteString(c, refusal)
		return
	}
	up, err := net.Dial("tcp", g.upstream)
	if err != nil {
		return
	}
	g.keep(up)
	defer up.Close()
	if err := r.WriteProxy(up); err != nil {
		return
	}
	g.open.Go(func() { _, _ = io.Copy(up, c); up.Close() })
	_, _ = io.Copy(c, up)
}

const proxyPassword = "hunter2"

// through returns the transport of a client behind the gate. The client signs in to the gate.
func (b *bench) through(g *gate) *http.Transport {
	t := b.Transport()
	t.Proxy = http.ProxyURL(
		&url.URL{Scheme: "http", Host: g.listener.Addr().String(), User: url.UserPassword("keyd", proxyPassword)},
	)
	t.OnProxyConnectResponse = nil // as keyd's own sets it
	return t
}

// behind returns a client behind the gate and its transport.
func (b *bench) behind(t *testing.T, g *gate) (*vault.Client, *http.Transport) {
	t.Helper()
	transport := b.through(g)
	c, err := vault.New(
		vault.Config{Vault: b.vault, KEKName: kekName, CreateKEK: true, KEKBits: 2048}, b.cred,
		vault.HTTPClient(transport), nil, nil,
	)
	if err != nil {
		t.Fatal(err)
	}
	return c, transport
}
