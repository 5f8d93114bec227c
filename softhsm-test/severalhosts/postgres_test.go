package severalhosts

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/store/postgres"
	"github.com/keyd-project/keyd/softhsm-test/authority"
	"github.com/keyd-project/keyd/softhsm-test/postgrestest"
)

const (
	ownersPassword = "stapled-to-the-wall"
	keydsPassword  = "correct-horse-battery"
)

// database is what a section makes: a primary with its standby, and the first host.
type database struct {
	ca       *authority.Authority
	a, b     *postgrestest.Server
	db1, db2 *host
	hq       *host
	sync     block  // makes the standby count
	files    block  // brings a host what it needs for TLS and to sign in
	section  string // of the configuration
}

func TestPostgreSQLIsSetUpAsThePageSays(t *testing.T) {
	t.Parallel()
	d := setUpPostgres(t, newHost(t), alone)
	t.Run("the store has nothing to see to", d.isWell)
	t.Run("keyd's role may do no more than it needs", d.hasLeastRights)
	t.Run("nobody else gets in", d.refusesOthers)
	t.Run("another server does not pass for it", d.isWhoItSays)
	t.Run("without the standby nothing is changed", d.needsItsStandby)
	t.Run("the standby takes over, with the same commands", d.failsOver)
}

// setUpPostgres follows the section, for a host with this in its configuration.
func setUpPostgres(t *testing.T, hq *host, config string) *database {
	t.Helper()
	r, d := read(t, onPostgres), &database{hq: hq}
	var err error
	d.ca, err = authority.New()
	must(t, err)
	// The page begins with two servers that the reader has. A test is not slow for fsync.
	usual := postgrestest.Options{Settings: []string{"fsync = on"}}
	d.a = postgrestest.Start(t, usual)
	d.b = d.a.Standby(t, "db2", usual)
	d.db1, d.db2 = d.server(t, d.a, "db1"), d.server(t, d.b, "db2")
	d.hq.changes = append(d.hq.changes, d.addresses()...)
	line := r.next("")
	secure := r.next("console")
	for _, s := range []*postgrestest.Server{d.a, d.b} {
		// The superuser and the standby get in as before.
		const before = "local all all trust\nhost replication postgres all trust\n"
		must(t, os.WriteFile(s.Data+"/pg_hba.conf", []byte(before+d.hq.here(line.text)), 0o600))
	}
	d.db1.run(secure)
	d.db2.run(secure.with("db1", "db2"))
	must(t, d.a.Until("postgres", "SHOW ssl", "on"))
	must(t, d.b.Until("postgres", "SHOW ssl", "on"))
	d.db1.passwords = map[string]string{"keyd_owner": ownersPassword, "keyd": keydsPassword}
	d.db1.run(r.next("console"))
	d.sync = r.next("console")
	d.db1.run(d.sync)

	d.files = r.next("console")
	d.bringFiles(d.hq)
	d.section = r.next("yaml").text
	d.hq.write(d.hq.here(config+d.section), "etc/keyd/next/keyd.yaml")
	_, err = d.open(t, d.options(t)).Tip(t.Context())
	wantError(t, "before the tables are made", err, "run keyd store init")
	d.hq.types(ownersPassword)
	d.hq.run(r.next("console"))
	_, err = d.open(t, d.options(t)).Tip(t.Context())
	wantError(t, "before the rights are given", err, "permission denied")
	grants, err := os.ReadFile(d.hq.path("root/grants.sql"))
	must(t, err)
	d.db1.write(string(grants), "root/grants.sql")
	d.db1.run(r.next("console"))
	return d
}

// bringFiles gives a host the password and the CA.
func (d *database) bringFiles(h *host) {
	h.write(string(d.ca.PEM), "root/db-ca.pem")
	h.types(keydsPassword)
	h.run(d.files)
}

// server is the machine of a server, whose administrator has a certificate for it.
func (d *database) server(t *testing.T, s *postgrestest.Server, name string) *host {
	t.Helper()
	h := newHost(t)
	h.env = append(h.env, "PGHOST="+s.Sockets, fmt.Sprintf("PGPORT=%d", s.Port), "PGUSER="+postgrestest.Superuser)
	cert, key, err := d.ca.Issue(name, s.Host)
	must(t, err)
	h.write(string(cert), "root", name+".pem")
	h.write(string(key), "root", name+".key")
	return h
}

// addresses are where the servers of the page are here.
func (d *database) addresses() []change {
	return []change{
		{"db1.example.com", postgrestest.Hosts(d.a), "the servers are on the loopback"},
		{"db2.example.com", postgrestest.Hosts(d.b), "the servers are on the loopback"},
	}
}

// options are those that keyd makes of the configuration.
func (d *database) options(t *testing.T) postgres.Options {
	t.Helper()
	cfg, err := config.Load(d.hq.path("etc/keyd/next/keyd.yaml"))
	must(t, err)
	p := cfg.Store.Postgres
	return postgres.Options{URL: p.URL, CAFile: p.CAFile, Synchronous: p.Synchronous, Deadline: time.Minute,
		Password: func() (string, error) {
			text, err := os.ReadFile(p.PasswordFile)
			return strings.TrimSuffix(string(text), "\n"), err
		}}
}

func (d *database) open(t *testing.T, o postgres.Options) *postgres.Engine {
	t.Helper()
	e, err := postgres.Open(o)
	must(t, err)
	t.Cleanup(func() { must(t, e.Close()) })
	return e
}

func (d *database) isWell(t *testing.T) {
	e := d.open(t, d.options(t))
	leads(t, e)
	warnings, err := e.Warnings(t.Context())
	if err != nil || len(warnings) > 0 {
		t.Errorf("it warns of %q, %v", warnings, err)
	}
	d.hq.run(block{text: "# keyd store status --config /etc/keyd/next/keyd.yaml"})
}

// keyd's password opens no more than its role needs.
func (d *database) hasLeastRights(t *testing.T) {
	statements := []string{
		"DELETE FROM keyd.entry", "UPDATE keyd.entry SET body = ''", "TRUNCATE keyd.record", "DELETE FROM keyd.record",
		"UPDATE keyd.head SET schema = 2", "DROP TABLE keyd.blob", "CREATE TABLE keyd.mine ()", "CREATE TABLE mine ()",
		"CREATE SCHEMA mine", "SET ROLE keyd_owner", "ALTER SYSTEM SET synchronous_standby_names = ''",
	}
	cmd := exec.Command("psql", "-X", "-d", d.a.URL("keyd", "keyd")+"?sslmode=verify-full&sslrootcert="+
		d.hq.path("etc/keyd/db-ca.pem"))
	cmd.Env = append(os.Environ(), "PGPASSWORD="+keydsPassword, "LC_ALL=C.UTF-8")
	cmd.Stdin = strings.NewReader(strings.Join(statements, ";\n") + ";\n")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "ERROR: ") != len(statements) {
		t.Errorf("of %d statements some were not refused: %v\n%s", len(statements), err, out)
	}
}

func (d *database) refusesOthers(t *testing.T) {
	for what, c := range map[string]struct{ printed, here, want string }{
		"without TLS":      {"sslmode=verify-full", "sslmode=disable", "no encryption"},
		"another role":     {"//keyd@", "//postgres@", "pg_hba.conf"},
		"another database": {"/keyd?", "/postgres?", "pg_hba.conf"},
		"another password": {"//keyd@", "//keyd_owner@", "store.postgres.password_file"},
	} {
		o := d.options(t)
		o.URL = strings.Replace(o.URL, c.printed, c.here, 1)
		_, err := d.open(t, o).Tip(t.Context())
		wantError(t, what, err, c.want)
	}
}

func (d *database) isWhoItSays(t *testing.T) {
	o := d.options(t)
	o.URL = strings.ReplaceAll(o.URL, "127.0.0.1", "localhost")
	_, err := d.open(t, o).Tip(t.Context())
	wantError(t, "another name than in the certificate", err, "certificate")
	other, err := authority.New()
	must(t, err)
	o = d.options(t)
	d.hq.write(string(other.PEM), "other-ca.pem")
	o.CAFile = d.hq.path("other-ca.pem")
	_, err = d.open(t, o).Tip(t.Context())
	wantError(t, "another authority", err, "certificate")
}

func (d *database) needsItsStandby(t *testing.T) {
	must(t, d.b.Stop())
	must(t, d.a.Until("postgres", "SELECT count(*) FROM pg_stat_replication", "0"))
	_, err := d.open(t, d.options(t)).Take(t.Context(), "hq-b", [16]byte{2}, time.Minute)
	wantError(t, "a lease", err, "start the standby")
	must(t, d.b.Run())
	must(t, d.a.Until("postgres", "SELECT sync_state FROM pg_stat_replication", "sync"))
}

// failsOver loses db1, and gives db2 a new standby there.
func (d *database) failsOver(t *testing.T) {
	e := d.open(t, d.options(t))
	before, err := e.Tip(t.Context())
	must(t, err)
	must(t, d.a.Crash())
	must(t, d.b.Promote())
	d.b.Standby(t, "db1", postgrestest.Options{Address: postgrestest.Hosts(d.a)})
	must(t, d.b.Until("postgres", "SELECT state FROM pg_stat_replication", "streaming"))
	d.db2.run(d.sync.with("db2", "db1"))
	must(t, d.b.Until("postgres", "SELECT sync_state FROM pg_stat_replication", "sync"))
	e = d.open(t, d.options(t))
	if tip, err := e.Tip(t.Context()); tip != before || err != nil {
		t.Errorf("the chain ends with %+v, %v; before it was %+v", tip, err, before)
	}
	leads(t, e)
}
