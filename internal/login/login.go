// Package login says who logged in, for a process at the other end of a unix socket: the user of the session of
// logind that the process belongs to. sudo changes a process's uid and not its session. Its rule: it never guesses.
package login

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// askTimeout is how long an answer of the system bus and logind may take.
const askTimeout = 2 * time.Second

// Process is the process that connected, pinned by a pidfd: no other process passes for it after it has ended.
type Process struct {
	pid int32
	fd  *os.File
}

// Peer pins the process that connected at the other end of c, which the caller still closes. Linux has offered this
// since 6.5 (SO_PEERPIDFD). keyd does not fall back on the process id alone: by the time of the question another
// process, of another session, could have it.
func Peer(c *net.UnixConn) (*Process, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var p *Process
	var peerErr error
	if err := raw.Control(func(fd uintptr) { p, peerErr = peer(int(fd)) }); err != nil {
		return nil, err
	}
	return p, peerErr
}

func peer(socket int) (*Process, error) {
	cred, err := unix.GetsockoptUcred(socket, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return nil, fmt.Errorf("SO_PEERCRED: %w", err)
	}
	if cred.Pid <= 0 {
		return nil, errors.New("the process that connected is in another pid namespace")
	}
	fd, err := unix.GetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if err != nil {
		return nil, fmt.Errorf("SO_PEERPIDFD (which needs Linux 6.5, and a process that has not ended): %w", err)
	}
	unix.CloseOnExec(fd)
	return &Process{pid: cred.Pid, fd: os.NewFile(uintptr(fd), "pidfd")}, nil
}

// Close unpins the process.
func (p *Process) Close() error { return p.fd.Close() }

// Of asks logind who logged in to the process's session.
func Of(ctx context.Context, p *Process) (string, error) { return of(ctx, p, logind) }

// of asks by the process id. The answer is about this process only if it has not ended by then.
func of(ctx context.Context, p *Process, ask func(context.Context, uint32) (string, error)) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	name, err := ask(ctx, uint32(p.pid))
	if err != nil {
		return "", err
	}
	if err := p.lives(); err != nil {
		return "", err
	}
	return name, nil
}

// lives returns an error once the process has ended: its pidfd is then readable (pidfd_open(2)).
func (p *Process) lives() error {
	raw, err := p.fd.SyscallConn()
	if err != nil {
		return err
	}
	var ended int
	var pollErr error
	err = raw.Control(func(fd uintptr) {
		ended, pollErr = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	})
	if err = errors.Join(err, pollErr); err != nil {
		return fmt.Errorf("poll the pidfd of process %d: %w", p.pid, err)
	}
	if ended != 0 {
		return fmt.Errorf("process %d, which connected, has ended", p.pid)
	}
	return nil
}

// The names of logind on the system bus (org.freedesktop.login1(5)).
const (
	service   = "org.freedesktop.login1"
	byPID     = service + ".Manager.GetSessionByPID"
	sessionOf = service + ".Session.Name"
)

// logind asks for the user of a process's session.
func logind(ctx context.Context, pid uint32) (string, error) {
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return "", fmt.Errorf("reach the system bus: %w", err)
	}
	defer bus.Close()
	var session dbus.ObjectPath
	manager := bus.Object(service, "/org/freedesktop/login1")
	if err := manager.CallWithContext(ctx, byPID, dbus.FlagNoAutoStart, pid).Store(&session); err != nil {
		return "", fmt.Errorf("ask logind for the session of process %d: %w", pid, err)
	}
	var name string
	if err := bus.Object(service, session).StoreProperty(sessionOf, &name); err != nil {
		return "", fmt.Errorf("ask logind who logged in to %s: %w", session, err)
	}
	if name == "" {
		return "", fmt.Errorf("logind names nobody who logged in to %s", session)
	}
	return name, nil
}
