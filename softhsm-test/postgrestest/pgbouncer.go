package postgrestest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
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
	cmd := s.command(program, file)
	out, err := os.Create(filepath.Join(s.dir, "pgbouncer.log"))
	if err != nil {
		tb.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		tb.Fatalf("%v; %s", err, installHint)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill() // if it ended by itself, a test has failed already
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		c, err := net.Dial("tcp", addresses[0])
		if err == nil {
			_ = c.Close() // nothing was sent
			return addresses[0]
		}
		time.Sleep(10 * time.Millisecond) // asks not too often; the deadline is what counts
	}
	log, err := os.ReadFile(out.Name())
	tb.Fatalf("pgbouncer does not answer after %s: %v\n%s", patience, err, log)
	return ""
}
