package hsm

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Listen makes the HSM side's unix socket at path with mode 0660. If another process serves the socket, it returns an
// error and never removes the socket. Closing the listener removes the socket.
func Listen(path string) (net.Listener, error) {
	lock, err := lockFile(path + ".lock")
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("the HSM socket %s is served by another process: %w", path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("make the HSM socket: %w", err)
	}
	l, err := listenLocked(path)
	if err != nil {
		return nil, errors.Join(err, unlock(lock))
	}
	return &socket{UnixListener: l, path: path, lock: lock}, nil
}

func listenLocked(path string) (*net.UnixListener, error) {
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		return nil, errors.Join(fmt.Errorf("the HSM socket %s is served by another process", path), conn.Close())
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket == 0 {
		return nil, fmt.Errorf(
			"%s is in the way of the HSM socket and is not a socket: remove it or set another path", path,
		)
	}
	// keyd makes the socket beside path and renames it, so that path never has a wider mode.
	beside := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.Remove(beside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: beside, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("make the HSM socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(beside, 0o660), os.Rename(beside, path)); err != nil {
		return nil, errors.Join(fmt.Errorf("make the HSM socket: %w", err), l.Close(), os.Remove(beside))
	}
	return l, nil
}

type socket struct {
	*net.UnixListener
	path string
	lock *os.File
}

// Close removes the socket if it is still ours, and then releases the lock.
func (s *socket) Close() error {
	err := s.UnixListener.Close()
	if errors.Is(err, net.ErrClosed) {
		return err
	}
	return errors.Join(err, os.Remove(s.path), unlock(s.lock))
}

// unlock releases the lock at once, even if a child that was just forked still has a copy of the descriptor until it
// executes (flock(2)).
func unlock(f *os.File) error {
	return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close())
}

func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f, nil
}
