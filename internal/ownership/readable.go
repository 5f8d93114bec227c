package ownership

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	user := someone{uid: stat.Uid, gids: Groups(stat.Uid, stat.Gid)}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if !user.may(dir, 0o1) {
			return fmt.Sprintf("%s cannot enter %s, and so cannot read %s: `sudo chmod a+x %s`", whose(user.uid), dir,
				path, Quoted(dir))
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	if !user.may(path, 0o4) {
		return fmt.Sprintf("%s cannot read %s: `sudo chown %s %s`", whose(user.uid), path, UserName(user.uid),
			Quoted(path))
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
