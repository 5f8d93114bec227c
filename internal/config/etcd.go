package config

import (
	"net"
	"regexp"
	"slices"
	"strings"
)

func readEtcd(s *section, instance string) *Etcd {
	refusePassword(s)
	s.only("endpoints", "prefix", "user", "password_file", "certificate_file", "key_file", "ca_file")
	s.require("endpoints", endpointRemedy)
	e := &Etcd{
		Prefix:          read(s, "prefix", "/keyd/"+instance+"/", parsePrefix),
		User:            read(s, "user", "", parseText),
		PasswordFile:    read(s, "password_file", "", parseSecretFile),
		CertificateFile: read(s, "certificate_file", "", parsePath),
		KeyFile:         read(s, "key_file", "", parseSecretFile),
		CAFile:          read(s, "ca_file", "", parsePath),
	}
	together(s, "user", "password_file", "the user of etcd has a password")
	together(s, "certificate_file", "key_file", "a client certificate has a private key")
	mistakes := len(s.rep.problems)
	tls := 0
	for _, end := range list(s, "endpoints", parseEndpoint) {
		if slices.Contains(e.Endpoints, end.value) {
			s.rep.add(end.at, "remove one of them", "%s: %s is in it twice", s.name("endpoints"), end.value)
			continue
		}
		if strings.HasPrefix(end.value, "https://") {
			tls++
		}
		e.Endpoints = append(e.Endpoints, end.value)
	}
	if s.has("endpoints") && len(e.Endpoints) == 0 && len(s.rep.problems) == mistakes {
		s.rep.add(s.whereOf("endpoints"), endpointRemedy, "%s is empty", s.name("endpoints"))
	}
	if tls > 0 && tls < len(e.Endpoints) {
		s.rep.add(s.whereOf("endpoints"), "write https:// in every endpoint",
			"%s: some are without TLS, and etcd's client does as the first one says", s.name("endpoints"))
	}
	if len(e.Endpoints) > 0 && tls == 0 {
		for _, name := range []string{"certificate_file", "ca_file"} {
			if s.has(name) {
				s.rep.add(s.whereOf(name), "write https:// in every endpoint, or remove the field",
					"%s has no meaning for an endpoint without TLS", s.name(name))
			}
		}
	}
	return e
}

// together refuses one of two fields that need each other.
func together(s *section, a, b, why string) {
	for _, pair := range [][2]string{{a, b}, {b, a}} {
		if s.has(pair[0]) && !s.has(pair[1]) {
			s.rep.add(s.whereOf(pair[0]), "write both, or neither", "%s needs %s: %s", s.name(pair[0]), pair[1], why)
		}
	}
}

var prefixForm = regexp.MustCompile(`^(/[0-9A-Za-z._-]+)+/?$`)

// partsOfKeys are what keyd's own keys under a prefix begin with: no store may lie in another one's keys.
var partsOfKeys = []string{"entry", "head", "record", "blob", "void"}

// parsePrefix returns a prefix that ends with a slash, so that it is not the beginning of another one.
func parsePrefix(s string) (string, error) {
	if !prefixForm.MatchString(s) || len(s) > 255 {
		return "", faultf("write names after slashes, such as /keyd/hq-1/", "%q is not a prefix of keys", s)
	}
	for _, part := range strings.Split(s, "/") {
		if slices.Contains(partsOfKeys, part) {
			return "", faultf("leave that part out", "%q lies in the keys of a store: %s is one of their "+
				"names", s, part)
		}
	}
	return strings.TrimSuffix(s, "/") + "/", nil
}

const endpointRemedy = "write the members' client URLs, such as [https://etcd1:2379, https://etcd2:2379, " +
	"https://etcd3:2379]"

// parseEndpoint returns the URL of a member. Its errors do not show a URL that may hold a password.
func parseEndpoint(text string) (string, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if strings.Contains(rest, "@") {
		return "", faultf("remove the user, and write user and password_file", "the URL holds a user")
	}
	if !ok || scheme != "https" && scheme != "http" {
		return "", faultf(endpointRemedy, "%q is not a URL that begins with https://", text)
	}
	authority := strings.TrimSuffix(rest, "/")
	if strings.ContainsAny(authority, "/?#") {
		return "", faultf(endpointRemedy, "%q has text after the host", text)
	}
	host, err := hostOf(authority)
	if err != nil {
		return "", err
	}
	if _, _, err := net.SplitHostPort(authority); err != nil {
		return "", faultf(endpointRemedy, "%q has no port", text)
	}
	if scheme == "http" && !isLoopback(host) {
		return "", faultf("write https://, and ca_file for the members' CA",
			"%q is on another host and without TLS: anybody between could read and change the records", text)
	}
	return scheme + "://" + authority, nil
}
