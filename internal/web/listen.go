package web

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// CheckListen finds what would keep New from listening, without listening: two checks at once do not disturb each
// other, nor a daemon that starts meanwhile.
func CheckListen(listen string) error {
	addr, err := net.ResolveTCPAddr("tcp", listen)
	if err != nil {
		return taken(err)
	}
	family, at := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: addr.Port, Addr: unspecified(addr.IP)})
	if four := addr.IP.To4(); four != nil {
		family, at = unix.AF_INET, &unix.SockaddrInet4{Port: addr.Port, Addr: [4]byte(four)}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return taken(os.NewSyscallError("socket", err))
	}
	// As Go's listener does it: only a socket that listens is then in the way.
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err == nil {
		err = unix.Bind(fd, at)
	}
	if err != nil {
		err = taken(&net.OpError{Op: "listen", Net: "tcp", Addr: addr, Err: os.NewSyscallError("bind", err)})
	}
	return errors.Join(err, unix.Close(fd))
}

// unspecified is an address as IPv6 has it; all addresses for none.
func unspecified(ip net.IP) (addr [16]byte) {
	copy(addr[:], ip.To16())
	return addr
}

func taken(err error) error {
	return fmt.Errorf("listen for metrics: %w: choose another web.listen, or stop the process that has this address "+
		"(ss -ltnp)", err)
}
