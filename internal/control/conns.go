package control

import (
	"container/list"
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"

	"golang.org/x/sys/unix"
)

// maxPerUID is how many connections one uid may have open. A further one replaces the
// uid's oldest idle connection; if none is idle, the server drops the new one.
const maxPerUID = 64

// conns counts connections by uid, so that the idle ones of one user starve nobody, not even that user.
type conns struct {
	metrics *metrics

	mu    sync.Mutex
	byUID map[uint32]*list.List // of *conn, oldest first
}

func newConns(m *metrics) *conns {
	return &conns{metrics: m, byUID: map[uint32]*list.List{}}
}

// conn is one accepted connection and who is behind it.
type conn struct {
	net.Conn
	peer  peer
	owner *conns

	place *list.Element // guarded by owner.mu, like busy; nil once released
	busy  bool
}

func (c *conn) Close() error {
	c.owner.release(c)
	c.peer.unpin()
	return c.Conn.Close()
}

// limited is a listener whose connections are counted.
type limited struct {
	net.Listener
	conns *conns
}

func (l limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		p, err := peerOf(c)
		if err != nil {
			c.Close() // gone already, or not ours to serve
			continue
		}
		p = p.pin(c)
		if admitted := l.conns.admit(c, p); admitted != nil {
			return admitted, nil
		}
		p.unpin()
		l.conns.metrics.dropped.Inc()
		c.Close()
	}
}

func peerOf(c net.Conn) (peer, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return peer{}, fmt.Errorf("a connection of type %T has no peer credentials", c)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return peer{}, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil {
		return peer{}, err
	}
	if credErr != nil {
		return peer{}, fmt.Errorf("SO_PEERCRED: %w", credErr)
	}
	return peer{uid: cred.Uid, gid: cred.Gid}, nil
}

// admit counts the connection. It returns nil if the uid has too many busy ones.
func (s *conns) admit(c net.Conn, p peer) *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.byUID[p.uid]
	if of == nil {
		of = list.New()
		s.byUID[p.uid] = of
	}
	if of.Len() >= maxPerUID {
		idle := oldestIdle(of)
		if idle == nil {
			return nil
		}
		s.remove(idle)
		idle.Conn.Close()
		s.metrics.dropped.Inc()
	}
	admitted := &conn{Conn: c, peer: p, owner: s}
	admitted.place = of.PushBack(admitted)
	s.metrics.connections.Inc()
	return admitted
}

func oldestIdle(of *list.List) *conn {
	for e := of.Front(); e != nil; e = e.Next() {
		if c := e.Value.(*conn); !c.busy {
			return c
		}
	}
	return nil
}

func (s *conns) release(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(c)
}

func (s *conns) remove(c *conn) {
	if c.place == nil {
		return
	}
	of := s.byUID[c.peer.uid]
	of.Remove(c.place)
	if of.Len() == 0 {
		delete(s.byUID, c.peer.uid)
	}
	c.place = nil
	s.metrics.connections.Dec()
}

// changed is the http.Server's ConnState hook.
func (s *conns) changed(nc net.Conn, state http.ConnState) {
	if c, ok := nc.(*conn); ok {
		s.mu.Lock()
		c.busy = state == http.StateActive
		s.mu.Unlock()
	}
}

type peerKey struct{}

// withPeer is the http.Server's ConnContext hook.
func withPeer(ctx context.Context, nc net.Conn) context.Context {
	if c, ok := nc.(*conn); ok {
		return context.WithValue(ctx, peerKey{}, c.peer)
	}
	return ctx
}
