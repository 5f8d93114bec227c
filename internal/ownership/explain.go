package ownership

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"syscall"
)

// Explain adds to a refused permission who owns the path, and the command that changes that. It returns every other
// error as it is.
func Explain(err error, path string) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	info, e := os.Lstat(path)
	if e != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%w: %s belongs to %s, and keyd runs as %s; to give it back: `%s`", err, path,
			whose(stat.Uid), whose(uint32(os.Geteuid())), Chown(path, uint32(os.Geteuid()), uint32(os.Getegid())))
	}
	return err
}

// Chown is the command that gives a path, and all that is in it, to a user and a group.
func Chown(path string, uid, gid uint32) string {
	group := digits(gid)
	if found, err := user.LookupGroupId(group); err == nil {
		group = found.Name
	}
	return fmt.Sprintf("sudo chown -R %s:%s %s", UserName(uid), group, Quoted(path))
}

// Differs refuses a path in a directory that has another owner than the directory: the owner of the directory, whose
// service it is, could not write it.
func Differs(path, dir string) error {
	inner, err := os.Stat(path)
	if err != nil {
		return err
	}
	outer, err := os.Stat(dir)
	if err != nil {
		return err
	}
	a, ok := inner.Sys().(*syscall.Stat_t)
	b, also := outer.Sys().(*syscall.Stat_t)
	if !ok || !also || a.Uid == b.Uid {
		return nil
	}
	return fmt.Errorf("%s belongs to %s, and its directory to %s; to give it back: `%s`", path, whose(a.Uid),
		whose(b.Uid), Chown(path, b.Uid, b.Gid))
}
