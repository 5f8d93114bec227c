package daemon

import (
	"os/user"
	"slices"
	"strconv"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/key"
)

// personOf is who is behind a request over the control socket, by what the configuration says of people.
func (d *Daemon) personOf(a control.Actor) key.Person { return whoIs(a, d.config(), uidOf) }

// whoIs names a person by the uid, unless that is root's, which is nobody's own, and by the login. Whoever works under
// the uid of another has both names, so that neither of the two can approve what they ask for.
func whoIs(a control.Actor, cfg *config.Config, uidOf func(string) (uint32, bool)) key.Person {
	p := a.Person()
	if len(cfg.People) == 0 {
		return p
	}
	p.Host = cfg.Host
	add := func(uid uint32, known bool) {
		name := ""
		if known {
			name = cfg.People.Of(cfg.Host, uid)
		}
		switch {
		case name == "":
			p.Unmapped = true
		case !slices.Contains(p.Names, name):
			p.Names = append(p.Names, name)
		}
	}
	if a.UID != 0 {
		add(a.UID, true)
	}
	if p.Login != "" {
		add(uidOf(p.Login))
	}
	return p
}

// uidOf is the uid of a user of this host.
func uidOf(login string) (uint32, bool) {
	u, err := user.Lookup(login)
	if err != nil {
		return 0, false
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	return uint32(uid), err == nil
}
