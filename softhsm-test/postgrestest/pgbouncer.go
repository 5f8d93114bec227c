package postgrestest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyd-project/keyd/softhsm-test/freeport"
)

// Bouncer puts a pgbouncer in transaction mode before the server until the test ends, and returns its address. It lets
// everybody in as that role, over so few connections to the server that clients share them.
func (s *Server) Bouncer(tb testing.TB, role, password string, connections int) (address string) {
	tb.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program = "/usr/sbin/pgbouncer" // which is not on everybody's path
	}
	addresses, err := freeport.Addresses(1)
	if err != nil {
		tb.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(addresses[0]) // it was just made of them
	ini := fmt.Sprintf(`[databases]
* = host=%s port=%d user=%s password=%s
[pgbouncer]
listen_addr = %s
listen_port = %s
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = %d
server_tls_sslmode = disable
`, s.Host, s.Port, role, password, host, port, connections)
	file := filepath.Join(s.dir, "pgbouncer.ini")
	if err := errors.Join(os.WriteFile(file, []byte(ini), 0o600), s.own(file)); err != nil {
		tb.Fatal(err)
	}
	log := filepath.Join(s.dir, "pgbouncer.log")
	p, err := s.start(log, program, file)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.end(syscall.SIGTERM); err != nil {
			tb.Error(err)
		}
	})
	if err := p.listens(log, addresses[0]); err != nil {
		tb.Fatal(err)
	}
	return addresses[0]
}

// listens waits until the process writes that it does: somebody else could listen there, too.
func (p *process) listens(log, address string) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		text, err := os.ReadFile(log)
		if err != nil || strings.Contains(string(text), "listening on "+address) {
			return err
		}
		select {
		case <-p.ended:
			return fmt.Errorf("it ended: %w\n%s", p.err, text)
		case <-time.After(5 * time.Millisecond):
		}
	}
	return fmt.Errorf("nobody listens at %s after %s", address, patience)
}
