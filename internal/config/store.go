package config

import (
	"fmt"
	"time"
)

// Store says where the records and the audit chain are. The zero value but for its lease: in a file in state_dir.
type Store struct {
	Postgres *Postgres // at most one of these is set
	Etcd     *Etcd
	Lease    time.Duration // how long a host leads without a sign of life
}

// Shared reports whether several hosts may use the store.
func (s Store) Shared() bool { return s.Postgres != nil || s.Etcd != nil }

// Kind names the engine: file, postgres or etcd.
func (s Store) Kind() string {
	switch {
	case s.Postgres != nil:
		return "postgres"
	case s.Etcd != nil:
		return "etcd"
	}
	return "file"
}

// Postgres says how to reach a store on PostgreSQL.
type Postgres struct {
	URL          string // without a password
	PasswordFile string // as written, or ""; see PasswordPath
	CAFile       string // absolute path of the CA certificates of the servers, or ""
	// Synchronous: nobody acts while no standby has every commit.
	Synchronous bool
}

// PasswordPath is the path of the file with the password; "" for none.
func (p Postgres) PasswordPath() (string, error) { return optionalPath(p.PasswordFile) }

// Etcd says how to reach a store on etcd.
type Etcd struct {
	Endpoints       []string
	Prefix          string // of all keys; ends with a slash
	User            string
	PasswordFile    string // as written, or ""; see PasswordPath
	CertificateFile string // absolute path, or ""
	KeyFile         string // as written, or ""; see KeyPath
	CAFile          string // absolute path of the CA certificates of the members, or ""
}

// PasswordPath is the path of the file with the user's password; "" for none.
func (e Etcd) PasswordPath() (string, error) { return optionalPath(e.PasswordFile) }

// KeyPath is the path of the file with the client certificate's private key; "" for none.
func (e Etcd) KeyPath() (string, error) { return optionalPath(e.KeyFile) }

func optionalPath(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	return credentialPath(name)
}

// NamedFile is a file that a field names.
type NamedFile struct{ Field, Path string }

// secrets are the files that only keyd's user may read, as they are written.
func (s Store) secrets() (files []NamedFile) {
	if p := s.Postgres; p != nil && p.PasswordFile != "" {
		files = append(files, NamedFile{"store.postgres.password_file", p.PasswordFile})
	}
	if e := s.Etcd; e != nil && e.PasswordFile != "" {
		files = append(files, NamedFile{"store.etcd.password_file", e.PasswordFile})
	}
	if e := s.Etcd; e != nil && e.KeyFile != "" {
		files = append(files, NamedFile{"store.etcd.key_file", e.KeyFile})
	}
	return files
}

// Files are all files that the section names, as they are written.
func (s Store) Files() []NamedFile {
	files := s.secrets()
	if p := s.Postgres; p != nil && p.CAFile != "" {
		files = append(files, NamedFile{"store.postgres.ca_file", p.CAFile})
	}
	if e := s.Etcd; e != nil && e.CAFile != "" {
		files = append(files, NamedFile{"store.etcd.ca_file", e.CAFile})
	}
	if e := s.Etcd; e != nil && e.CertificateFile != "" {
		files = append(files, NamedFile{"store.etcd.certificate_file", e.CertificateFile})
	}
	return files
}

// The bounds of a lease.
const (
	defaultLease  = 15 * time.Second
	shortestLease = 2 * time.Second
	longestLease  = 5 * time.Minute
)

func readStore(top *section, instance string) Store {
	store := Store{Lease: defaultLease}
	if !top.has("store") {
		return store
	}
	s := top.sub("store")
	s.only("postgres", "etcd", "lease")
	switch {
	case s.has("postgres") && s.has("etcd"):
		s.rep.add(s.byName["etcd"].at, "keep one of them", "store: postgres and etcd are both set")
	case !s.has("postgres") && !s.has("etcd"):
		s.rep.add(s.at, "write postgres or etcd, or remove store: the state is then in a file in state_dir",
			"store: it has neither postgres nor etcd")
		return store
	}
	store.Lease = read(s, "lease", defaultLease, parseLease)
	if s.has("postgres") {
		store.Postgres = readPostgres(s.sub("postgres"))
	}
	if s.has("etcd") {
		store.Etcd = readEtcd(s.sub("etcd"), instance)
	}
	return store
}

func parseLease(s string) (time.Duration, error) {
	d, err := parseDuration(s)
	if err != nil {
		return 0, err
	}
	if d < shortestLease || d > longestLease {
		return 0, faultf(fmt.Sprintf("write a duration from %s to %s: a shorter lease is over whenever the store is "+
			"slow for a moment, and with a longer one nobody acts for so long after a "+
			"crash", showDuration(shortestLease),
			showDuration(longestLease)), "%s is out of range", s)
	}
	return d, nil
}

// refuseFirstUse refuses trust in the key exchange key that is used first: each host has an HSM side, and each would
// trust what it saw first.
func refuseFirstUse(c *Config, k KEK, s *section) {
	if k.FirstUse && c.Store.Shared() {
		s.rep.add(s.whereOf("trust"), "pin it: write fingerprint: as keyd kek shows it, or for a Managed HSM "+
			"partition_root:", "%s: with a store for several hosts the key exchange key must be pinned or attested",
			s.name("trust"))
	}
}
