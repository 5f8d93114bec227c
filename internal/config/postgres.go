package config

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

func readPostgres(s *section) *Postgres {
	refusePassword(s)
	s.only("url", "password_file", "ca_file", "synchronous")
	s.require("url", postgresRemedy)
	return &Postgres{
		URL:          read(s, "url", "", parsePostgresURL),
		PasswordFile: read(s, "password_file", "", parseSecretFile),
		CAFile:       read(s, "ca_file", "", parsePath),
		Synchronous:  read(s, "synchronous", "on", oneOf("on", "off")) == "on",
	}
}

const (
	postgresRemedy = "write postgres://USER@HOST/DATABASE, or with several hosts " +
		"postgres://USER@HOST1,HOST2/DATABASE?target_session_attrs=read-write"
	passwordRemedy = "write it into a file that only keyd's user can read, name that by password_file, and change " +
		"the password if others could read this file"
)

// refusePassword refuses a password in the configuration and says where it belongs.
func refusePassword(s *section) {
	s.fields = slices.DeleteFunc(s.fields, func(f field) bool {
		if f.name != "password" {
			return false
		}
		s.rep.add(f.at, passwordRemedy, "%s puts the password into the configuration", s.name("password"))
		return true
	})
}

// postgresParameters are what may stand in a URL after the question mark. The rest has a field of its own, or would
// have keyd read files that the configuration does not name.
var postgresParameters = []string{"target_session_attrs", "sslmode", "connect_timeout", "application_name"}

// parsePostgresURL returns the URL as it is written. Its errors never show the URL: it may hold a password.
func parsePostgresURL(text string) (string, error) {
	rest, ok := strings.CutPrefix(text, "postgres://")
	if !ok {
		rest, ok = strings.CutPrefix(text, "postgresql://")
	}
	if !ok {
		return "", faultf(postgresRemedy, "this is not a URL that begins with postgres://")
	}
	rest, query, _ := strings.Cut(rest, "?")
	if at := strings.LastIndex(rest, "@"); at >= 0 && strings.Contains(rest[:at], ":") {
		return "", faultf(passwordRemedy, "the URL holds a password")
	}
	authority, database, _ := strings.Cut(rest, "/")
	user, hosts, hasUser := strings.Cut(authority, "@")
	if !hasUser || user == "" {
		return "", faultf(postgresRemedy, "the URL names no user")
	}
	if database == "" || strings.ContainsAny(database, "/#") {
		return "", faultf(postgresRemedy, "the URL names no database")
	}
	parameters, err := postgresQuery(query)
	if err != nil {
		return "", err
	}
	return text, checkPostgresHosts(strings.Split(hosts, ","), parameters)
}

func postgresQuery(query string) (url.Values, error) {
	parameters, err := url.ParseQuery(query)
	if err != nil {
		return nil, faultf("write NAME=VALUE, separated by &, with a percent sign as %25",
			"what stands after the question mark cannot be read")
	}
	for name, values := range parameters {
		switch {
		case name == "password":
			return nil, faultf(passwordRemedy, "the URL holds a password")
		case name == "sslrootcert":
			return nil, faultf("write ca_file: with the path, and remove it", "the URL names CA certificates")
		case !slices.Contains(postgresParameters, name):
			return nil, faultf("remove it; the URL may have "+strings.Join(postgresParameters, ", "),
				"the URL has a parameter that keyd does not take, %q", name)
		case len(values) > 1:
			return nil, faultf("keep one of them", "the URL has %s twice", name)
		}
	}
	return parameters, nil
}

// checkPostgresHosts refuses what could lead keyd to a server that takes no writes, or that is not the one it is.
func checkPostgresHosts(hosts []string, parameters url.Values) error {
	away := false
	for _, host := range hosts {
		name, err := hostOf(host)
		if err != nil {
			return err
		}
		away = away || !isLoopback(name)
	}
	attrs, mode := parameters.Get("target_session_attrs"), parameters.Get("sslmode")
	switch {
	case attrs != "read-write" && (attrs != "" || len(hosts) > 1):
		return faultf("write ?target_session_attrs=read-write after the database", "keyd must reach the server that "+
			"takes writes, and the URL does not say so")
	case mode != "" && mode != "verify-full" && (away || mode != "disable"):
		return faultf("write sslmode=verify-full, or remove it: keyd then uses verify-full; ca_file names the CA",
			"sslmode=%s lets somebody between here and the database pass for it", mode)
	}
	return nil
}

// hostOf is the host of HOST or HOST:PORT.
func hostOf(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"), ""
	}
	if _, addrErr := netip.ParseAddr(host); addrErr != nil && !hostNameForm.MatchString(host) {
		return "", faultf("write a host's name or address, with :PORT behind it if it is not the usual port",
			"%q is not a host", s)
	}
	if n, portErr := strconv.Atoi(port); err == nil && (portErr != nil || n < 1 || n > 65535) {
		return "", faultf("write a port from 1 to 65535", "%q has no such port", s)
	}
	return host, nil
}

// isLoopback reports whether only this host answers at a name or an address.
func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}
