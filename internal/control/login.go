package control

import (
	"context"
	"fmt"
	"net"

	"github.com/keyd-project/keyd/internal/login"
)

// LoginFinder says who logged in to the session of a process.
type LoginFinder func(context.Context, *login.Process) (string, error)

// FindLogins makes s ask find who is behind each acting request. Call it before Serve.
func (s *Server) FindLogins(find LoginFinder) { s.logins = find }

// findLogin notes who is behind the request. An actor without a login may act, too: the audit says "login unknown",
// and the log says why.
func (c *call) findLogin(ctx context.Context, rt route, p peer) {
	name, err := p.login(ctx, c.logins)
	if err != nil {
		c.log.Info("the login behind a control request is unknown", "request", rt.name, "actor", c.actor.user(),
			"error", err.Error())
		return
	}
	c.actor.Login = name
}

// pin holds the process that connected, so that its login can be told later.
func (p peer) pin(c net.Conn) peer {
	u, ok := c.(*net.UnixConn)
	if !ok {
		p.unpinned = fmt.Errorf("a connection of type %T has no process", c)
		return p
	}
	p.process, p.unpinned = login.Peer(u)
	return p
}

func (p peer) unpin() {
	if p.process != nil {
		p.process.Close()
	}
}

func (p peer) login(ctx context.Context, find LoginFinder) (string, error) {
	if p.process == nil {
		return "", p.unpinned
	}
	return find(ctx, p.process)
}
