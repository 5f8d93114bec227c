package web

import (
	"cmp"
	"container/list"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
)

// crowd is a listener that accepts every connection at once, and then closes others, so that there are never more than
// most. It closes those of whoever has the most: of the local user, or of the remote address. So nobody can keep others
// out by connections that say nothing.
type crowd struct {
	net.Listener
	most  int
	users func(peers []netip.AddrPort) map[netip.AddrPort]string // who is behind local connections

	mu   sync.Mutex
	open *list.List // of *guest, oldest first
}

// guest is one connection.
type guest struct {
	net.Conn
	crowd *crowd
	peer  netip.AddrPort
	who   string // "": not asked yet

	place *list.Element // guarded by crowd.mu, like busy and who; nil once released
	busy  bool          // it has asked for something, and has no answer yet
}

func newCrowd(l net.Listener, most int) *crowd {
	return &crowd{Listener: l, most: most, users: localUsers, open: list.New()}
}

// Accept never fails because there are too many connections.
func (c *crowd) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	g := &guest{Conn: conn, crowd: c}
	if addr, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		g.peer = addr.AddrPort()
		g.peer = netip.AddrPortFrom(g.peer.Addr().Unmap(), g.peer.Port())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	g.place = c.open.PushBack(g)
	if c.open.Len() > c.most {
		c.thin()
	}
	return g, nil
}

// thin closes half of the connections of whoever has the most: those that say nothing first, and the oldest first. It
// does more than one, so that asking who is behind them is rare. The caller has mu.
func (c *crowd) thin() {
	c.identify()
	by := map[string][]*guest{}
	most := ""
	for e := c.open.Front(); e != nil; e = e.Next() {
		g := e.Value.(*guest)
		if by[g.who] = append(by[g.who], g); len(by[g.who]) > len(by[most]) {
			most = g.who
		}
	}
	left := (len(by[most]) + 1) / 2
	for _, busy := range []bool{false, true} {
		for _, g := range by[most] {
			if left > 0 && g.place != nil && g.busy == busy {
				c.remove(g)
				_ = g.Conn.Close()
				left--
			}
		}
	}
}

// identify asks who is behind the connections of which that is not known. The caller has mu.
func (c *crowd) identify() {
	var local []netip.AddrPort
	for e := c.open.Front(); e != nil; e = e.Next() {
		if g := e.Value.(*guest); g.who == "" {
			g.who = g.peer.Addr().String()
			if g.peer.Addr().IsLoopback() {
				local = append(local, g.peer)
			}
		}
	}
	if len(local) == 0 {
		return
	}
	users := c.users(local)
	for e := c.open.Front(); e != nil; e = e.Next() {
		g := e.Value.(*guest)
		g.who = cmp.Or(users[g.peer], g.who)
	}
}

// remove takes a connection from the list. The caller has mu.
func (c *crowd) remove(g *guest) {
	if g.place != nil {
		c.open.Remove(g.place)
		g.place = nil
	}
}

func (g *guest) Close() error {
	g.crowd.mu.Lock()
	g.crowd.remove(g)
	g.crowd.mu.Unlock()
	return g.Conn.Close()
}

// changed is the http.Server's ConnState hook.
func changed(conn net.Conn, state http.ConnState) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	if g, ok := conn.(*guest); ok {
		g.crowd.mu.Lock()
		g.busy = state == http.StateActive
		g.crowd.mu.Unlock()
	}
}
