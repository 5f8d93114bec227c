// Package postgrestest runs throw-away PostgreSQL servers for tests and demos, with synchronous standbys. Its rule:
// real servers in folders of their own, never the system's cluster; missing programs are a failure, never a skip.
//
// As root it runs them as user postgres, because PostgreSQL refuses root. They lose data when the machine crashes, and
// end with the program that started them.
package postgrestest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/softhsm-test/freeport"
)

const (
	installHint = "install it with: make deps"
	patience    = time.Minute
	// Superuser is the role that made the cluster. It needs no password.
	Superuser = "postgres"
)

// Options say how a server differs from the usual one, which listens on a free port of 127.0.0.1 and trusts everybody.
type Options struct {
	Address string // HOST:PORT to listen on
	// Auth is the method by which TCP connections prove who they are, such as scram-sha-256; "": trust.
	Auth string
	// Certificate and Key, in PEM, have the server offer TLS.
	Certificate, Key []byte
	// Settings are lines of postgresql.conf, such as "max_connections = 10".
	Settings []string
	// Within is put before each command, such as ip netns exec NAME.
	Within []string
}

// Server is a throw-away server.
type Server struct {
	Host string
	Port int
	// Sockets is the folder of the unix socket.
	Sockets string
	// Data is the folder of the data.
	Data string

	o       Options
	bin     string
	dir     string
	owner   *user.User // whom it runs as; nil: whoever runs this program
	process *process
}

// Start makes a server and runs it until the test ends.
func Start(tb testing.TB, o Options) *Server {
	tb.Helper()
	s, err := Create(o)
	if err == nil {
		tb.Cleanup(func() { s.remove(tb) })
		err = s.Run()
	}
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func (s *Server) remove(tb testing.TB) {
	if err := s.Remove(); err != nil {
		tb.Errorf("remove a PostgreSQL: %v", err)
	}
}

// Create makes a server that does not run yet.
func Create(o Options) (*Server, error) {
	s, err := prepare(o)
	if err != nil {
		return nil, err
	}
	if err := s.initialise(); err != nil {
		return nil, errors.Join(err, s.Remove())
	}
	return s, nil
}

// prepare makes the folder of a server, and no data.
func prepare(o Options) (*Server, error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	if o.Address == "" {
		addresses, err := freeport.Addresses(1)
		if err != nil {
			return nil, err
		}
		o.Address = addresses[0]
	}
	s := &Server{o: o, bin: bin}
	host, port, err := net.SplitHostPort(o.Address)
	if err != nil {
		return nil, err
	}
	s.Host = host
	if s.Port, err = strconv.Atoi(port); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "postgres-"); err != nil {
		return nil, err
	}
	s.Sockets, s.Data = s.dir, filepath.Join(s.dir, "data")
	if os.Getuid() == 0 {
		if s.owner, err = user.Lookup("postgres"); err != nil {
			return nil, fmt.Errorf("PostgreSQL refuses to run as root: %w; %s", err, installHint)
		}
	}
	return s, s.own(s.dir)
}

// own gives a path to the user that the server runs as.
func (s *Server) own(path string) error {
	if s.owner == nil {
		return nil
	}
	uid, _ := strconv.Atoi(s.owner.Uid) // a number, as on all of Linux
	gid, _ := strconv.Atoi(s.owner.Gid)
	return os.Chown(path, uid, gid)
}

// programs is the folder with the newest PostgreSQL's programs.
func programs() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		initdb, err := exec.LookPath("initdb")
		if err != nil {
			return "", fmt.Errorf("no PostgreSQL in /usr/lib/postgresql: %w; %s", err, installHint)
		}
		return filepath.Dir(initdb), nil
	}
	slices.SortFunc(found, func(a, b string) int { return version(a) - version(b) })
	return filepath.Dir(found[len(found)-1]), nil
}

func version(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // 0, the oldest, for any other folder
	return n
}

func (s *Server) initialise() error {
	if _, err := s.run("initdb", "-D", s.Data, "-U", Superuser, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8",
		"--no-sync", "--no-instructions"); err != nil {
		return err
	}
	return s.configure()
}

// configure adds lines to postgresql.conf, and writes who may connect.
func (s *Server) configure() error {
	lines := []string{
		"listen_addresses = '" + s.Host + "'",
		"port = " + strconv.Itoa(s.Port),
		"unix_socket_directories = '" + s.Sockets + "'",
		"fsync = off", // the machine will not crash in a test
		"shared_buffers = 16MB",
		"max_wal_senders = 4",
		"wal_retrieve_retry_interval = 100ms", // of a standby
		"log_line_prefix = '%m %a '",
		"ssl = off",
	}
	if len(s.o.Certificate) > 0 {
		lines = append(lines, "ssl = on", "ssl_cert_file = 'server.crt'", "ssl_key_file = 'server.key'")
		err := errors.Join(s.write("server.crt", s.o.Certificate), s.write("server.key", s.o.Key))
		if err != nil {
			return err
		}
	}
	if err := s.Set(append(lines, s.o.Settings...)...); err != nil {
		return err
	}
	auth := s.o.Auth
	if auth == "" {
		auth = "trust"
	}
	hba := "local all all trust\nlocal replication all trust\nhost replication all all trust\nhost all all all " +
		auth + "\n"
	return s.write("pg_hba.conf", []byte(hba))
}

// write makes a file that only the server's user can read.
func (s *Server) write(name string, content []byte) error {
	path := filepath.Join(s.Data, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return err
	}
	return s.own(path)
}

// Set adds lines to postgresql.conf, and has a running server read them.
func (s *Server) Set(lines ...string) error {
	f, err := os.OpenFile(filepath.Join(s.Data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strings.Join(lines, "\n") + "\n")
	if err := errors.Join(err, f.Close()); err != nil || s.process == nil {
		return err
	}
	_, err = s.SQL("postgres", "SELECT pg_reload_conf()")
	return err
}

// URL is how keyd reaches a database on it, as a role, over TCP.
func (s *Server) URL(role, database string) string {
	return fmt.Sprintf("postgres://%s@%s/%s", role, net.JoinHostPort(s.Host, strconv.Itoa(s.Port)), database)
}

// SQL runs statements as the superuser, and returns their rows, one a line.
func (s *Server) SQL(database, statements string) (string, error) {
	return s.run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", s.Sockets, "-p", strconv.Itoa(s.Port),
		"-U", Superuser, "-d", database, "-c", statements)
}
