package web

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// localUsers returns the user behind the other end of each of these connections from this machine, as "uid N". Those
// that the kernel no longer shows are left out.
func localUsers(peers []netip.AddrPort) map[netip.AddrPort]string {
	wanted := make(map[netip.AddrPort]bool, len(peers))
	for _, p := range peers {
		wanted[p] = true
	}
	users := map[netip.AddrPort]string{}
	for _, name := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		f, err := os.Open(name)
		if err != nil {
			continue // a kernel without IPv6; such a connection then counts under its address
		}
		readUsers(f, wanted, users)
		_ = f.Close()
	}
	return users
}

// readUsers reads the kernel's table of TCP sockets (proc_net_tcp(5)): a line for each, with its own address and its
// owner.
func readUsers(table io.Reader, wanted map[netip.AddrPort]bool, users map[netip.AddrPort]string) {
	for lines := bufio.NewScanner(table); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 8 {
			continue
		}
		own, ok := parseSocket(fields[1])
		if _, err := strconv.ParseUint(fields[7], 10, 32); ok && err == nil && wanted[own] {
			users[own] = "uid " + fields[7]
		}
	}
}

// parseSocket reads an address of the table: hex digits, in words of 4 bytes in the machine's order, and the port.
func parseSocket(text string) (addr netip.AddrPort, ok bool) {
	digits, port, _ := strings.Cut(text, ":")
	b, err := hex.DecodeString(digits)
	n, errPort := strconv.ParseUint(port, 16, 16)
	if err != nil || errPort != nil || len(b) != 4 && len(b) != 16 {
		return addr, false
	}
	for i := 0; i < len(b); i += 4 {
		binary.BigEndian.PutUint32(b[i:], binary.NativeEndian.Uint32(b[i:]))
	}
	ip, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)), ok
}
