package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/keyd-project/keyd/internal/ownership"
)

// maxPath is the longest path of a unix socket, in bytes (unix(7): sun_path is
// 108 with its closing zero).
const maxPath = 107

// Listen creates the control socket: mode 0660 and owned by the group (a name or gid),
// or mode 0600 if group is "". It never touches a socket on which a daemon still
// answers, and replaces a dead one. A lock file stays beside the socket (path plus
// ".lock"), so that two daemons that start at once cannot both take over a dead socket.
// Close removes the socket.
func Listen(path, group string) (net.Listener, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("control socket %s: a socket's path has at most %d bytes: configure a shorter one",
			path, maxPath)
	}
	gid, err := groupID(group)
	if err != nil {
		return nil, err
	}
	lock, err := lockBeside(path)
	if err != nil {
		return nil, err
	}
	if err := removeDead(path); err != nil {
		return nil, errors.Join(err, unlock(lock))
	}
	inner, err := bind(path, group != "", int(gid))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("control socket %s: %w", path, err), unlock(lock))
	}
	return &listener{Listener: inner, path: path, lock: lock}, nil
}

type listener struct {
	net.Listener
	path string
	lock *os.File
}

// Close removes the socket while the lock is still held.
func (l *listener) Close() error {
	err := l.Listener.Close()
	if errors.Is(err, net.ErrClosed) {
		return err
	}
	return errors.Join(err, os.Remove(l.path), unlock(l.lock))
}

// unlock releases the lock at once, even while a just forked child still has a copy of
// the descriptor until it executes (flock(2)).
func unlock(f *os.File) error {
	return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close())
}

func lockBeside(path string) (*os.File, error) {
	name := path + ".lock"
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("control socket %s: %w; make the directory %s, or set RuntimeDirectory=keyd in the unit",
			path, err, filepath.Dir(path))
	}
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, ownership.Explain(err, name))
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(inUse(path), f.Close())
	}
	return f, nil
}

func inUse(path string) error {
	return fmt.Errorf("control socket %s: another keyd daemon serves it; stop that one first (`systemctl stop keyd`)",
		path)
}

// removeDead unlinks a socket that nobody listens on, and nothing else.
func removeDead(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("control socket %s: there is something else than a socket at this path: move it away, or "+
			"configure another path", path)
	}
	conn, err := net.Dial("unix", path)
	switch {
	case err == nil:
		return errors.Join(inUse(path), conn.Close())
	case errors.Is(err, unix.ECONNREFUSED):
		return os.Remove(path)
	default:
		return fmt.Errorf("control socket %s: cannot tell whether a daemon serves it: %w", path,
			ownership.Explain(err, path))
	}
}

// bind sets owner and mode between bind and listen, while nobody can connect yet.
func bind(path string, grouped bool, gid int) (net.Listener, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close() // the listener has a copy
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return nil, fmt.Errorf("bind: %w", err)
	}
	l, err := open(f, path, grouped, gid)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return l, nil
}

// GiveTo gives an open control socket to another group (a name or gid), or to its owner alone if group is "".
func GiveTo(path, group string) error {
	gid, err := groupID(group)
	if err != nil {
		return err
	}
	return give(path, group != "", int(gid))
}

func give(path string, grouped bool, gid int) error {
	mode := fs.FileMode(0o600)
	if grouped {
		mode = 0o660
		if err := os.Lchown(path, -1, gid); err != nil {
			return fmt.Errorf("give it to its group (the daemon's user must be a member): %w", err)
		}
	}
	return os.Chmod(path, mode)
}

func open(f *os.File, path string, grouped bool, gid int) (net.Listener, error) {
	if err := give(path, grouped, gid); err != nil {
		return nil, err
	}
	if err := unix.Listen(int(f.Fd()), unix.SOMAXCONN); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return net.FileListener(f)
}
