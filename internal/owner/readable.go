package owner

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// Unreadable says, with the command that changes it, why the user that a directory belongs to cannot read a file; "" if
// that user can, or if it is root. It goes by owners and modes, so root can ask before a service tries.
func Unreadable(path, dirOfUser string) string {
	info, err := os.Stat(dirOfUser)
	if err != nil {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Uid == 0 {
		return ""
	}
	reader := someone{uid: stat.Uid, gids: groupsOf(stat.Uid, stat.Gid)}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if !reader.may(dir, 0o1) {
			return fmt.Sprintf("%s cannot enter %s, and so cannot read %s: `sudo chmod a+x %s`", name(reader.uid), dir,
				path, dir)
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	if !reader.may(path, 0o4) {
		return fmt.Sprintf("%s cannot read %s: `sudo chown %s %s`", name(reader.uid), path, name(reader.uid), path)
	}
	return ""
}

type someone struct {
	uid  uint32
	gids []uint32
}

// may reports whether the mode gives this right, one of the last three bits. A path that cannot be seen is no refusal.
func (s someone) may(path string, right os.FileMode) bool {
	info, err := os.Stat(path)
	if err != nil {
		return true
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch mode := info.Mode().Perm(); {
	case !ok:
		return true
	case stat.Uid == s.uid:
		return mode>>6&right != 0
	case slices.Contains(s.gids, stat.Gid):
		return mode>>3&right != 0
	default:
		return mode&right != 0
	}
}

// groupsOf lists the groups of a user, besides the given one.
func groupsOf(uid, gid uint32) []uint32 {
	gids := []uint32{gid}
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return gids
	}
	names, err := u.GroupIds()
	if err != nil {
		return gids
	}
	for _, n := range names {
		if id, err := strconv.ParseUint(n, 10, 32); err == nil {
			gids = append(gids, uint32(id))
		}
	}
	return gids
}
