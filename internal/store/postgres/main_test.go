package postgres_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/store/postgres"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/store/storetest"
	"github.com/keyd-project/keyd/softhsm-test/postgrestest"
)

const (
	owner  = "owner"       // of the tables
	daemon = "keyd-daemon" // has the least rights
	secret = "correct-horse-battery"
	tables = "tables" // a database with empty tables, which others are copied from
)

// one is a server that all tests share that leave it as it is, each with a database of its own.
var one struct {
	sync.Mutex
	*postgrestest.Server
	ca        []byte
	databases atomic.Int64
}

func TestMain(m *testing.M) {
	code := m.Run()
	if one.Server != nil {
		if err := one.Remove(); err != nil {
			fmt.Println(err)
			code = 1
		}
	}
	os.Exit(code)
}

// server is the server that tests share.
func server(t *testing.T) *postgrestest.Server {
	t.Helper()
	one.Lock()
	defer one.Unlock()
	if one.Server == nil {
		certificate, key := selfSigned(t)
		s, err := postgrestest.Create(postgrestest.Options{
			Auth: "scram-sha-256", Certificate: certificate, Key: key,
		})
		must(t, err)
		one.Server, one.ca = s, certificate
		must(t, s.Run())
		prepare(t, s)
	}
	return one.Server
}

// prepare makes the roles, and the database with empty tables.
func prepare(t *testing.T, s *postgrestest.Server) {
	t.Helper()
	sql(t, s, "postgres", fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD '%s'; CREATE ROLE %q LOGIN PASSWORD '%s'`, owner,
		secret, daemon, secret))
	sql(t, s, "postgres", fmt.Sprintf("CREATE DATABASE %s OWNER %s", tables, owner))
	from, to, err := postgres.Init(t.Context(), options(s.URL(owner, tables)))
	must(t, err)
	if from != 0 || to == 0 {
		t.Fatalf("a new database went from schema %d to %d", from, to)
	}
	sql(t, s, tables, postgres.Grants(daemon))
}

// selfSigned is a certificate for 127.0.0.1, and for no other name, that is its own authority.
func selfSigned(t *testing.T) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true,
		BasicConstraintsValid: true, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	must(t, err)
	bytes, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: bytes})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sql(t *testing.T, s *postgrestest.Server, database, statements string) string {
	t.Helper()
	out, err := s.SQL(database, statements)
	must(t, err)
	return out
}

// database makes an empty store, and returns its database.
func database(t *testing.T, s *postgrestest.Server) string {
	t.Helper()
	name := fmt.Sprintf("keyd%d", one.databases.Add(1))
	sql(t, s, "postgres", fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", name, tables))
	return name
}

// options reach a database with the password. The deadline is one that no slow machine misses.
func options(url string) postgres.Options {
	return postgres.Options{URL: url, Password: func() (string, error) { return secret, nil }, Deadline: time.Minute}
}

// open opens an engine until the test ends.
func open(t *testing.T, o postgres.Options) *postgres.Engine {
	t.Helper()
	e, err := postgres.Open(o)
	must(t, err)
	t.Cleanup(func() { must(t, e.Close()) })
	return e
}

// fresh is an engine on an empty store of the shared server, as the daemon has it.
func fresh(t *testing.T) (e *postgres.Engine, s *postgrestest.Server, name string) {
	t.Helper()
	s = server(t)
	name = database(t, s)
	return open(t, options(s.URL(daemon, name))), s, name
}

// after is a change of no record that follows a tip.
func after(t *testing.T, tip stored.Tip, event chain.Event) stored.Change {
	t.Helper()
	l, err := chain.Append(tip.Seq, tip.Hash, chain.Entry{Time: time.Unix(1, 0), Event: event, Actor: "test"}, "")
	must(t, err)
	return stored.Change{Tip: tip, Entries: []chain.Linked{l}}
}

// end is the tip that a change leaves.
func end(c stored.Change) stored.Tip {
	last := c.Entries[len(c.Entries)-1]
	return stored.Tip{Seq: last.Seq, Hash: last.Hash}
}

func wantTip(t *testing.T, e *postgres.Engine, want stored.Tip) {
	t.Helper()
	if got, err := e.Tip(t.Context()); got != want || err != nil {
		t.Errorf("the chain ends with %+v, %v; want %+v", got, err, want)
	}
}

func file(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(path, content, 0o600))
	return path
}

func TestTheContractOfAnEngine(t *testing.T) {
	t.Parallel()
	s := server(t)
	name := database(t, s)
	contract(t, s, name, options(s.URL(daemon, name)))
}

// In transaction mode each transaction may run in another session of the server, and clients share the sessions.
func TestTheContractThroughPgbouncer(t *testing.T) {
	t.Parallel()
	s := server(t)
	name := database(t, s)
	url := fmt.Sprintf("postgres://%s@%s/%s", daemon, s.Bouncer(t, daemon, secret, 2), name)
	contract(t, s, name, postgres.Options{URL: url, Deadline: time.Minute})
}

// contract empties the store for each part of the contract: a new database would take far longer.
func contract(t *testing.T, s *postgrestest.Server, name string, o postgres.Options) {
	storetest.RunEngine(t, func(t *testing.T) storetest.Handles {
		sql(t, s, name, `TRUNCATE keyd.entry, keyd.record, keyd.blob;
			UPDATE keyd.head SET seq = 0, hash = decode(repeat('00', 32), 'hex'), epoch = DEFAULT, nonce = DEFAULT,
			holder = DEFAULT, since = DEFAULT, until = DEFAULT, ttl = DEFAULT, sealed = DEFAULT`)
		return func(t *testing.T) stored.Engine {
			t.Helper()
			e, err := postgres.Open(o)
			must(t, err)
			return e
		}
	})
}
