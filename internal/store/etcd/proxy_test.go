package etcd

import (
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyd-project/keyd/softhsm-test/etcdtest"
)

// proxy stands between keyd and one member. It can lose what goes one way, and cut all connections.
type proxy struct {
	URL         string
	loseAnswers atomic.Bool
	loseAsked   atomic.Bool
	lost        atomic.Int64 // bytes

	mu    sync.Mutex
	conns []net.Conn
}

func newProxy(t *testing.T, m *etcdtest.Member) *proxy {
	t.Helper()
	to, err := url.Parse(m.URL)
	if err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{URL: "http://" + l.Addr().String()}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", to.Host)
			if err != nil {
				_ = near.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, near, far)
			p.mu.Unlock()
			go p.pass(far, near, &p.loseAsked)
			go p.pass(near, far, &p.loseAnswers)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
	})
	return p
}

// pass passes on what it reads, or loses it.
func (p *proxy) pass(to io.Writer, from io.Reader, lose *atomic.Bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if lose.Load() {
			p.lost.Add(int64(n))
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}
