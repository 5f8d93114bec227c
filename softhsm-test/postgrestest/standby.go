package postgrestest

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"
)

// Standby copies a running server to a standby of it, which follows it under that name, and runs it until the test
// ends. The primary does not wait for it before Synchronise.
func (s *Server) Standby(tb testing.TB, name string, o Options) *Server {
	tb.Helper()
	b, err := s.CreateStandby(name, o)
	if err == nil {
		tb.Cleanup(func() { b.remove(tb) })
		err = b.Run()
	}
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// CreateStandby makes a standby that does not run yet.
func (s *Server) CreateStandby(name string, o Options) (*Server, error) {
	b, err := prepare(o)
	if err != nil {
		return nil, err
	}
	from := fmt.Sprintf("host=%s port=%d user=%s application_name=%s", s.Host, s.Port, Superuser, name)
	_, err = b.run("pg_basebackup", "-D", b.Data, "-R", "-X", "stream", "-c", "fast", "--no-sync", "-d", from)
	if err == nil {
		err = b.configure()
	}
	if err != nil {
		return nil, errors.Join(err, b.Remove())
	}
	return b, nil
}

// Synchronise has the server wait at COMMIT for as many standbys as synchronous_standby_names says, and waits until
// they are there.
func (s *Server) Synchronise(names string, standbys int) error {
	if err := s.Set("synchronous_standby_names = '" + names + "'"); err != nil {
		return err
	}
	return s.Until("postgres", `SELECT count(*) FROM pg_stat_replication
		WHERE state = 'streaming' AND sync_state IN ('sync', 'quorum')`, strconv.Itoa(standbys))
}

// Until waits until a query has that result.
func (s *Server) Until(database, query, want string) error {
	var got string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		var err error
		if got, err = s.SQL(database, query); err != nil {
			return err
		}
		if got == want {
			return nil
		}
		time.Sleep(10 * time.Millisecond) // asks not too often; the deadline is what counts
	}
	return fmt.Errorf("%s: %q after %s, want %q", query, got, patience, want)
}

// Promote makes a standby a primary, and waits until it is one.
func (s *Server) Promote() error {
	_, err := s.run("pg_ctl", "promote", "-w", "-D", s.Data)
	return err
}

// Hosts is the part of a URL that names several servers.
func Hosts(servers ...*Server) (hosts string) {
	for i, s := range servers {
		if i > 0 {
			hosts += ","
		}
		hosts += net.JoinHostPort(s.Host, strconv.Itoa(s.Port))
	}
	return hosts
}
