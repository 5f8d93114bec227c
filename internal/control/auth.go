package control

import (
	"fmt"
	"os/user"
	"slices"
	"strconv"

	"github.com/keyd-project/keyd/internal/login"
	"github.com/keyd-project/keyd/internal/ownership"
)

// Authoriser decides what a peer may do: read shows the state, act changes it.
type Authoriser func(uid uint32, gids []uint32) (read, act bool)

// Rules are keyd's own authorisation. Root and the daemon's own uid always act.
type Rules struct {
	Self      uint32   // the daemon's uid
	Readers   string   // the group that may read, by name or gid; "": none
	Operators []uint32 // uids that may act, too
}

// Authoriser resolves the readers' group once. It fails if the group does not exist.
func (r Rules) Authoriser() (Authoriser, error) {
	readers, err := groupID(r.Readers)
	if err != nil {
		return nil, err
	}
	return func(uid uint32, gids []uint32) (read, act bool) {
		act = uid == 0 || uid == r.Self || slices.Contains(r.Operators, uid)
		read = act || (r.Readers != "" && slices.Contains(gids, readers))
		return read, act
	}, nil
}

// groupID finds a group by its name or number; 0 for "".
func groupID(name string) (uint32, error) {
	if name == "" {
		return 0, nil
	}
	if gid, err := parseID(name); err == nil {
		return gid, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0,
			fmt.Errorf("the control socket's group: %w; create it with `addgroup --system %s`, or configure "+
				"another group",
				err, name)
	}
	return parseID(g.Gid)
}

func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("the system's id %q: %w", s, err)
	}
	return uint32(n), nil
}

// peer is the identity that the kernel reported for the process at the other end when
// it connected (SO_PEERCRED, unix(7)).
type peer struct {
	uid, gid uint32
	// process is nil if the kernel cannot pin it; unpinned says why.
	process  *login.Process
	unpinned error
}

// identify names the peer and lists its groups: the one it connected with, and
// those that the system's database gives its user now.
func (p peer) identify() (Actor, []uint32) {
	actor := Actor{UID: p.uid}
	if u, err := user.LookupId(strconv.FormatUint(uint64(p.uid), 10)); err == nil {
		actor.Name = u.Username
	}
	return actor, ownership.Groups(p.uid, p.gid)
}
