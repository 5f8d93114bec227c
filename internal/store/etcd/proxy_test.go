package etcd

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyd-project/keyd/softhsm-test/etcdtest"
)

// proxy stands between keyd and one member. It can lose what goes one way, or keep what goes to the member, and cut all
// connections.
type proxy struct {
	URL         string
	loseAnswers atomic.Bool
	loseAsked   atomic.Bool
	keep        atomic.Bool
	lost        atomic.Int64 // bytes

	mu   sync.Mutex
	near []net.Conn // to keyd
	far  []net.Conn // to the member
	kept []kept
}

// kept is what did not go on to the member yet.
type kept struct {
	to   io.Writer
	data []byte
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
			p.near, p.far = append(p.near, near), append(p.far, far)
			p.mu.Unlock()
			go p.pass(far, near, &p.loseAsked, &p.keep)
			go p.pass(near, far, &p.loseAnswers, &atomic.Bool{})
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
	})
	return p
}

// pass passes on what it reads, or loses it, or keeps it.
func (p *proxy) pass(to io.Writer, from io.Reader, lose, keep *atomic.Bool) {
	for {
		buf := make([]byte, 64<<10)
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		switch {
		case lose.Load():
			p.lost.Add(int64(n))
		case keep.Load():
			p.mu.Lock()
			p.kept = append(p.kept, kept{to, buf[:n]})
			p.mu.Unlock()
		default:
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	}
}

// holds counts a text in what was kept.
func (p *proxy) holds(text string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []byte
	for _, k := range p.kept {
		all = append(all, k.data...)
	}
	return bytes.Count(all, []byte(text))
}

// pour passes on what was kept.
func (p *proxy) pour(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.kept {
		if _, err := k.to.Write(k.data); err != nil {
			t.Fatal(err)
		}
	}
}

// hangUp ends the connections to keyd, and the member does not see that.
func (p *proxy) hangUp() { p.end(&p.near) }

// cut ends all connections.
func (p *proxy) cut() {
	p.end(&p.near)
	p.end(&p.far)
}

func (p *proxy) end(conns *[]net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range *conns {
		_ = c.Close()
	}
	*conns = nil
}
