package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/config"
)

const (
	onPostgres = base + `host: hq-a
store:
  lease: 10s
  postgres: {url: "postgres://keyd@db1,db2:5433/keyd?target_session_attrs=read-write", password_file: db-password}
people:
  alice: {hq-a: 1000, hq-b: 1004}
  bob: {hq-b: 1000}
control:
  operators: [alice, bob]
`
	onEtcd = base + `host: hq-a
store:
  etcd:
    endpoints: ["https://etcd1:2379", "https://10.0.0.2:2379/"]
    user: keyd
    password_file: db-password
`
	loopbackEtcd  = `endpoints: ["http://127.0.0.1:2379"]`
	passwordSteps = "write it into a file that only keyd's user can read, name that by password_file, and change the " +
		"password if others could read this file"
	postgresForm = "write postgres://USER@HOST/DATABASE, or with several hosts " +
		"postgres://USER@HOST1,HOST2/DATABASE?target_session_attrs=read-write"
	endpointForm = "write the members' client URLs, such as [https://etcd1:2379, https://etcd2:2379, " +
		"https://etcd3:2379]"
)

func TestAStoreOnPostgreSQL(t *testing.T) {
	c := mustLoad(t, onPostgres)
	want := config.Store{Lease: 10 * time.Second, Postgres: &config.Postgres{Synchronous: true,
		URL: "postgres://keyd@db1,db2:5433/keyd?target_session_attrs=read-write", PasswordFile: "db-password"}}
	if diff := cmp.Diff(want, c.Store); diff != "" {
		t.Error(diff)
	}
}

func TestAStoreOnEtcd(t *testing.T) {
	c := mustLoad(t, onEtcd)
	want := config.Store{Lease: 15 * time.Second, Etcd: &config.Etcd{
		Endpoints: []string{"https://etcd1:2379", "https://10.0.0.2:2379"}, Prefix: "/keyd/hq-1/",
		User: "keyd", PasswordFile: "db-password"}}
	if diff := cmp.Diff(want, c.Store); diff != "" {
		t.Error(diff)
	}
}

func TestAHostHasTheNameThatTheSystemGivesIt(t *testing.T) {
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	c, ps := load(t, map[string]string{"keyd.yaml": strings.Replace(onEtcd, "host: hq-a\n", "", 1)})
	switch own := !strings.HasPrefix(strings.ToLower(name), "localhost"); {
	case own && (ps != nil || c.Host != strings.ToLower(name)):
		t.Errorf("the system is called %q: %+v\n%v", name, c, ps)
	case !own && (len(ps) != 1 || !strings.Contains(ps.Error(), "every host is called localhost")):
		t.Errorf("the system is called %q:\n%v", name, ps)
	}
}

func TestOneHostHasAFileAndNoName(t *testing.T) {
	if c := mustLoad(t, base); c.Store.Shared() || c.Host != "" || c.Store.Kind() != "file" {
		t.Errorf("%+v on %q", c.Store, c.Host)
	}
}

// Each row changes one line of a configuration; « stands where the problem must point.
func TestEachMistakeAboutTheStoreIsNamed(t *testing.T) {
	const (
		url       = `"postgres://keyd@db1,db2:5433/keyd?target_session_attrs=read-write"`
		lease     = "  lease: 10s\n"
		endpoints = `["https://etcd1:2379", "https://10.0.0.2:2379/"]`
		user      = "    user: keyd\n    password_file: db-password\n"
	)
	for _, m := range []struct{ name, in, old, new, want string }{
		{"neither engine", base, "keys:\n", "«store: {lease: 10s}\nkeys:\n",
			"store: it has neither postgres nor etcd; write postgres or etcd, or remove store: the state is then " +
				"in a " +
				"file in state_dir"},
		{"both engines", onPostgres, lease, "  «etcd: {" + loopbackEtcd + "}\n",
			"store: postgres and etcd are both set; keep one of them"},
		{"a short lease", onPostgres, "lease: 10s", "lease: «1s",
			"store.lease: 1s is out of range; write a duration from 2s to 5m: a shorter lease is over whenever the " +
				"store is slow for a moment, and with a longer one nobody acts for so long after a crash"},
		{"no duration", onPostgres, "lease: 10s", "lease: «10",
			`store.lease: "10" is not a duration; write a duration such as 30s, 15m, 24h or 90d`},
		{"an unknown field", onPostgres, "lease: 10s", "«leese: 10s", "unknown field store.leese; did you mean lease?"},
		// PostgreSQL.
		{"no URL", onPostgres, "{url: " + url + ", ", "{", ""},
		{"a password in the URL", onPostgres, "keyd@db1", "keyd:s3cret@db1",
			"store.postgres.url: the URL holds a password; " + passwordSteps},
		{"a password with a slash", onPostgres, "keyd@db1", "keyd:s3/cret@db1",
			"store.postgres.url: the URL holds a password; " + passwordSteps},
		{"a password as a parameter", onPostgres, "?target", "?password=s3cret&target",
			"store.postgres.url: the URL holds a password; " + passwordSteps},
		{"a password as a field", onPostgres, "password_file: db-password", "«password: s3cret",
			"store.postgres.password puts the password into the configuration; " + passwordSteps},
		{"words for a URL", onPostgres, url, `"host=db1 password=s3cret"`,
			"store.postgres.url: this is not a URL that begins with postgres://; " + postgresForm},
		{"no user", onPostgres, "keyd@db1", "db1", "store.postgres.url: the URL names no user; " + postgresForm},
		{"no database", onPostgres, "5433/keyd", "5433/", "store.postgres.url: the URL names no database; " +
			"" + postgresForm},
		{"several hosts", onPostgres, "?target_session_attrs=read-write", "",
			"store.postgres.url: keyd must reach the server that takes writes, and the URL does not say so; write " +
				"?target_session_attrs=read-write after the database"},
		{"a server that may be read only", onPostgres, "attrs=read-write", "attrs=any",
			"store.postgres.url: keyd must reach the server that takes writes, and the URL does not say so; write " +
				"?target_session_attrs=read-write after the database"},
		{"no TLS", onPostgres, "?target", "?sslmode=disable&target",
			"store.postgres.url: sslmode=disable lets somebody between here and the database pass for it; write " +
				"sslmode=verify-full, or remove it: keyd then uses verify-full; ca_file names the CA"},
		{"a CA in the URL", onPostgres, "?target", "?sslrootcert=/ca.pem&target",
			"store.postgres.url: the URL names CA certificates; write ca_file: with the path, and remove it"},
		{"a parameter that reads files", onPostgres, "?target", "?passfile=/x&target",
			`store.postgres.url: the URL has a parameter that keyd does not take, "passfile"; remove it; the URL may ` +
				"have target_session_attrs, sslmode, connect_timeout, application_name"},
		{"a parameter twice", onPostgres, "?target", "?sslmode=verify-full&sslmode=disable&target",
			"store.postgres.url: the URL has sslmode twice; keep one of them"},
		{"a bad escape", onPostgres, "?target", "?application_name=%zz&target",
			"store.postgres.url: what stands after the question mark cannot be read; write NAME=VALUE, separated " +
				"by &, " +
				"with a percent sign as %25"},
		{"a port", onPostgres, "db2:5433", "db2:0", `store.postgres.url: "db2:0" has no such port; write a port from ` +
			"1 to 65535"},
		{"a host", onPostgres, "@db1,", "@db_1/,", "store.postgres.url: the URL names no database; " + postgresForm},
		{"synchronous", onPostgres, "password_file: db-password", "synchronous: «yes",
			`store.postgres.synchronous: unknown value "yes"; write one of on, off`},
		{"a relative CA", onPostgres, "password_file: db-password", "ca_file: «ca.pem",
			`store.postgres.ca_file: "ca.pem" is not an absolute path; write the path from the root, such as ` +
				"/etc/keyd/ca.pem"},
		// etcd.
		{"no endpoints", onEtcd, endpoints, "«[]", "store.etcd.endpoints is empty; " + endpointForm},
		{"endpoints are missing", onEtcd, "    endpoints: " + endpoints + "\n", "",
			""},
		{"an endpoint twice", onEtcd, endpoints, `["https://a:1", «"https://a:1/"]`,
			"store.etcd.endpoints: https://a:1 is in it twice; remove one of them"},
		{"an endpoint without TLS", onEtcd, endpoints, `[«"http://etcd1:2379"]`,
			`store.etcd.endpoints: "http://etcd1:2379" is on another host and without TLS: anybody between could ` +
				`read ` +
				"and change the records; write https://, and ca_file for the members' CA"},
		{"a password in an endpoint", onEtcd, endpoints, `[«"https://keyd:s3cret@etcd1:2379"]`,
			"store.etcd.endpoints: the URL holds a user; remove the user, and write user and password_file"},
		{"an endpoint without a scheme", onEtcd, endpoints, `[«"etcd1:2379"]`,
			`store.etcd.endpoints: "etcd1:2379" is not a URL that begins with https://; ` + endpointForm},
		{"an endpoint with a path", onEtcd, endpoints, `[«"https://etcd1:2379/v3"]`,
			`store.etcd.endpoints: "https://etcd1:2379/v3" has text after the host; ` + endpointForm},
		{"a user without a password", onEtcd, user, "    user: «keyd\n",
			"store.etcd.user needs password_file: the user of etcd has a password; write both, or neither"},
		{"a certificate without a key", onEtcd, user, "    certificate_file: «/etc/keyd/etcd.pem\n",
			"store.etcd.certificate_file needs key_file: a client certificate has a private key; write both, or " +
				"neither"},
		{"a CA that nothing needs", onEtcd, endpoints, `["http://127.0.0.1:2379"]` + "\n    ca_file: «/etc/ca.pem",
			"store.etcd.ca_file has no meaning for an endpoint without TLS; write https:// in every endpoint, or " +
				"remove " +
				"the field"},
		{"an endpoint without a port", onEtcd, endpoints, `[«"https://etcd1"]`,
			`store.etcd.endpoints: "https://etcd1" has no port; ` + endpointForm},
		{"some endpoints without TLS", onEtcd, endpoints, `«["http://127.0.0.1:2379", "https://etcd1:2379"]`,
			"store.etcd.endpoints: some are without TLS, and etcd's client does as the first one says; write " +
				"https:// in " +
				"every endpoint"},
		{"a prefix in another store", onEtcd, user, "    prefix: «/keyd/record/\n",
			`store.etcd.prefix: "/keyd/record/" lies in the keys of a store: record is one of their names; leave ` +
				`that ` +
				"part out"},
		{"a prefix", onEtcd, user, "    prefix: «keyd\n",
			`store.etcd.prefix: "keyd" is not a prefix of keys; write names after slashes, such as /keyd/hq-1/`},
		// The rest of the configuration under a store for several hosts.
		{"first use", onEtcd, "url: https://contoso-weu.vault.azure.net\n",
			"url: https://contoso-weu.vault.azure.net\n    kek: {trust: «first-use}\n",
			"vaults.weu.kek.trust: with a store for several hosts the key exchange key must be pinned or " +
				"attested; pin " +
				"it: write fingerprint: as keyd kek shows it, or for a Managed HSM partition_root:"},
		{"an operator by uid", onPostgres, "[alice, bob]", "[alice, «1000]",
			`control.operators: "1000" may be another person on another host; write a name that is in people: ` +
				`people: ` +
				"{alice: {hq-a: 1000, hq-b: 1004}}"},
		{"a group by gid", onPostgres, "control:\n", "control:\n  group: «1000\n",
			`control.group: 1000 may be another group on another host; write the group's name`},
	} {
		t.Run(m.name, func(t *testing.T) {
			if m.want == "" { // its place is that of the section
				_, ps := load(t, map[string]string{"keyd.yaml": strings.Replace(m.in, m.old, m.new, 1)})
				if len(ps) != 1 || !strings.Contains(ps[0].Message, "is missing") {
					t.Errorf("got\n%v", ps)
				}
				return
			}
			if !strings.Contains(m.new, "«") { // in the URL
				m.old, m.new = url, "«"+strings.Replace(url, m.old, m.new, 1)
			}
			hasMistake(t, m.in, m.old, m.new, m.want)
		})
	}
}

func TestNoErrorAboutTheStoreShowsAPassword(t *testing.T) {
	for _, url := range []string{"postgres://keyd:s3cret@db1/keyd", "postgres://keyd:s3%cret@db1/keyd",
		"postgres://db1/keyd?password=s3cret", "postgres://keyd:s3/cr@et@db1/keyd", "host=db1 password=s3cret",
		"postgres://keyd:s3cret", "keyd:s3cret@db1", "mysql://keyd:s3cret@db1/keyd"} {
		_, ps := load(t, map[string]string{"keyd.yaml": base + "store: {postgres: {url: \"" + url + "\"}}\n"})
		if len(ps) == 0 || strings.Contains(ps.Error(), "s3") {
			t.Errorf("%s:\n%v", url, ps)
		}
	}
}

func TestOnLoopbackAStoreNeedsNoTLS(t *testing.T) {
	mustLoad(t, base+`store: {postgres: {url: "postgres://keyd@127.0.0.1:6432/keyd?sslmode=disable"}}`+"\nhost: a\n")
	mustLoad(t, base+`store: {postgres: {url: "postgres://keyd@[::1]/keyd?sslmode=disable"}}`+"\nhost: a\n")
	mustLoad(t, base+"store: {etcd: {"+loopbackEtcd+"}}\nhost: a\n")
}

func TestSecretsOfTheStoreThatOthersCanReadAreRefused(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("x\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	for _, in := range []string{onPostgres, onEtcd} {
		_, ps := load(t, map[string]string{"keyd.yaml": strings.Replace(in, "db-password", secret, 1)})
		if len(ps) != 1 || ps[0].Line == 0 ||
			!strings.Contains(ps[0].Message, "open to group or others (mode 0640)") {
			t.Errorf("got\n%v", ps)
		}
	}
}

func TestHostsThatActByTheSamePolicyHaveTheSameDigest(t *testing.T) {
	digest := func(text string) string {
		d, err := config.SharedDigest(mustLoad(t, text))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	was := digest(onPostgres)
	for name, change := range map[string][2]string{
		"its name":          {"host: hq-a", "host: hq-b"},
		"the order":         {"[alice, bob]", "[bob, alice]"},
		"its HSM":           {"token: keyd", "token: keyd\n  socket: /run/keyd-hsm/hsm.sock"},
		"its state":         {"host: hq-a", "host: hq-a\nstate_dir: /srv/keyd"},
		"its way to there":  {"keyd@db1,db2:5433/keyd", "keyd@127.0.0.1:6432/keyd"},
		"its log":           {"host: hq-a", "host: hq-a\nlog: {level: debug}"},
		"how it signs in":   {"host: hq-a", "host: hq-a\nazure: {client_id: 00000000-0000-0000-0000-000000000000}"},
		"where it listens":  {"host: hq-a", "host: hq-a\nweb: {listen: '127.0.0.1:9890'}"},
		"a comment":         {"host: hq-a", "host: hq-a # here"},
		"its control group": {"operators: [alice", "socket: /run/k.sock\n  operators: [alice"},
	} {
		if text := strings.Replace(onPostgres, change[0], change[1], 1); text == onPostgres || digest(text) != was {
			t.Errorf("%s changes the digest", name)
		}
	}
	for name, change := range map[string][2]string{
		"an operator":       {"[alice, bob]", "[alice]"},
		"a person's uid":    {"hq-b: 1004", "hq-b: 1005"},
		"a schedule":        {"@monthly", "@weekly"},
		"a key's vaults":    {"[weu, mhsm]", "[weu]"},
		"the lease":         {"lease: 10s", "lease: 11s"},
		"a lost commit":     {"password_file: db-password", "synchronous: off"},
		"how often it asks": {"host: hq-a", "host: hq-a\nhealth: {newest: 1m}"},
		"a pin": {"weu.vault.azure.net\n", "weu.vault.azure.net\n    kek: {fingerprint: " +
			"\"" + print + "\"}\n"},
		"the acts": {"host: hq-a", "host: hq-a\napprovals: {acts: [adopt]}"},
	} {
		if text := strings.Replace(onPostgres, change[0], change[1], 1); text == onPostgres || digest(text) == was {
			t.Errorf("%s does not change the digest", name)
		}
	}
}
