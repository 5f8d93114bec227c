package postgres

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	connectTimeout  = 3 * time.Second // for each host
	defaultDeadline = 10 * time.Second
	usualPort       = 5432
)

// Options say how to reach the database.
type Options struct {
	URL string // postgres://USER@HOST[:PORT],…/DATABASE?…, without a password
	// Password is asked at each connect, so that it may change meanwhile; nil: none is needed.
	Password func() (string, error)
	CAFile   string // certificates of those who signed the servers'; "": the system's
	// Synchronous refuses every change while too few standbys have every commit. Do without only if the storage below
	// the server loses nothing.
	Synchronous bool
	Deadline    time.Duration // of a statement and of a COMMIT; 0: 10 s
}

// parameters are what a URL may have after the question mark. Others would change what a session is, or have pgx read
// files that nobody expects.
var parameters = []string{
	"application_name", "connect_timeout", "host", "port", "sslcert", "sslkey", "sslmode", "target_session_attrs",
}

const (
	shape          = "write postgres://USER@HOST1,HOST2/DATABASE?target_session_attrs=read-write"
	passwordRemedy = "remove it, write it into the file that store.postgres.password_file names, and change it if " +
		"others could read it"
)

// Problem says what is wrong with the options. It never shows the URL: whatever is in it may be a password.
type Problem struct {
	What   string
	Remedy string
	err    error
}

func (p *Problem) Error() string { return "store.postgres: " + p.What + "; " + p.Remedy }

func (p *Problem) Unwrap() error { return p.err }

// config is what pgx makes of the options.
func (o Options) config() (*pgxpool.Config, error) {
	base, query, err := o.split()
	if err != nil {
		return nil, err
	}
	mode, attributes := query.Get("sslmode"), query.Get("target_session_attrs")
	certificate, key := query.Get("sslcert"), query.Get("sslkey")
	c, err := parse(base, query, "disable", "", "", "") // for now: only the hosts are of interest
	if err != nil {
		return nil, &Problem{What: "the URL cannot be read", Remedy: shape} // the cause would show a part of it
	}
	hosts := hostsOf(&c.ConnConfig.Config)
	local := !slices.ContainsFunc(hosts, func(h host) bool { return !h.local() })
	switch {
	case attributes != "read-write" && (attributes != "" || len(hosts) > 1):
		return nil, &Problem{What: "the URL does not ask for the server that takes writes",
			Remedy: "write target_session_attrs=read-write after its question mark"}
	case mode == "disable" && local, mode == "" && local:
		return c, nil
	case mode != "" && mode != "verify-full":
		return nil, &Problem{
			What:   "with sslmode=" + strconv.Quote(mode) + " another server could pass for the database",
			Remedy: "write sslmode=verify-full, or remove it; ca_file names who signed the server's certificate",
		}
	}
	c, err = parse(base, query, "verify-full", o.CAFile, certificate, key)
	if err != nil { // its files cannot be used
		cause := errors.Unwrap(err)
		return nil, &Problem{What: fmt.Sprint(cause), Remedy: "look at ca_file, and at sslcert and sslkey in the URL",
			err: cause}
	}
	return c, nil
}

// parse sets all that TLS needs, to "", too: pgx does not look for it in the environment or in a home directory then.
func parse(base string, query url.Values, mode, ca, certificate, key string) (*pgxpool.Config, error) {
	query.Set("sslmode", mode)
	query.Set("sslrootcert", ca)
	query.Set("sslcert", certificate)
	query.Set("sslkey", key)
	return pgxpool.ParseConfig(base + "?" + query.Encode())
}

// split is the URL before its question mark, and what is after it.
func (o Options) split() (base string, query url.Values, err error) {
	base, text, _ := strings.Cut(o.URL, "?")
	rest, ok := strings.CutPrefix(base, "postgres://")
	if !ok {
		rest, ok = strings.CutPrefix(base, "postgresql://")
	}
	authority, _, _ := strings.Cut(rest, "/")
	at := strings.LastIndex(authority, "@")
	query, err = url.ParseQuery(text)
	switch {
	case !ok:
		return "", nil, &Problem{What: "the URL does not begin with postgres://", Remedy: shape}
	case err != nil:
		return "", nil, &Problem{What: "what follows the question mark cannot be read", Remedy: shape}
	case at >= 0 && strings.Contains(authority[:at], ":"), query.Has("password"):
		return "", nil, &Problem{What: "the URL holds a password", Remedy: passwordRemedy}
	case at <= 0:
		return "", nil, &Problem{What: "the URL names no user", Remedy: shape}
	case at == len(authority)-1 && !query.Has("host"):
		return "", nil, &Problem{What: "the URL names no host", Remedy: shape}
	}
	if err := samePorts(authority[at+1:]); err != nil {
		return "", nil, err
	}
	for name := range query {
		if !slices.Contains(parameters, name) {
			return "", nil, &Problem{What: fmt.Sprintf("the URL has %q, which keyd does not take", name),
				Remedy: "remove it; it may have " + strings.Join(parameters, ", ")}
		}
	}
	return base, query, nil
}

// samePorts refuses a port for some hosts only: pgx would take it for the others, too.
func samePorts(hosts string) error {
	names, with := strings.Split(hosts, ","), 0
	for _, name := range names {
		if strings.LastIndex(name, ":") > strings.LastIndex(name, "]") {
			with++
		}
	}
	if with > 0 && with < len(names) {
		return &Problem{What: "the URL has a port for some hosts only",
			Remedy: "write :PORT after each host, or after none"}
	}
	return nil
}

type host struct {
	name string
	port uint16
}

func hostsOf(c *pgconn.Config) []host {
	hosts := []host{{c.Host, c.Port}}
	for _, f := range c.Fallbacks {
		hosts = append(hosts, host{f.Host, f.Port})
	}
	return hosts
}

// local reports whether nobody but this machine is on the way.
func (h host) local() bool {
	addr, err := netip.ParseAddr(h.name)
	return h.name == "localhost" || strings.HasPrefix(h.name, "/") || err == nil && addr.IsLoopback()
}

func (h host) String() string {
	switch {
	case h.port == usualPort:
		return h.name
	case strings.Contains(h.name, ":"):
		return fmt.Sprintf("[%s]:%d", h.name, h.port)
	}
	return fmt.Sprintf("%s:%d", h.name, h.port)
}
