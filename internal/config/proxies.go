package config

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// environment is where a Problem of a variable lies.
const environment = "environment"

// CheckProxies finds mistakes in HTTPS_PROXY, HTTP_PROXY and NO_PROXY, upper case before
// lower case, as Go's HTTP client reads them. That client silently ignores what it
// cannot parse and connects directly. The error is of type Problems and never contains a
// variable's value, which may hold a password. getenv is os.Getenv.
func CheckProxies(getenv func(string) string) error {
	var found Problems
	for _, upper := range []string{"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"} {
		name, value := upper, getenv(upper)
		if value == "" {
			name = strings.ToLower(upper)
			value = getenv(name)
		}
		check := proxyFault
		if upper == "NO_PROXY" {
			check = noProxyFault
		}
		if what := check(value); what != "" {
			found = append(found, Problem{
				File: environment, Message: name + " cannot be used: " + what,
				Remedy: fmt.Sprintf("correct it where it is set (systemctl cat keyd shows where the service's is), "+
					"or unset %s", name),
			})
		}
	}
	if len(found) == 0 {
		return nil
	}
	return found
}

const (
	encodeIt = "in a user or a password write it percent-encoded, such as %40 for @, %23 for #, %2F for / and %25 " +
		"for a percent sign"
	formOfIt = "it must be http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT"
)

// proxyFault says what is wrong with a proxy's address; "" if nothing is.
func proxyFault(value string) string {
	if value == "" {
		return ""
	}
	if strings.ContainsFunc(value, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return "it holds a space, a line break or another control character"
	}
	for _, c := range "#?" {
		if strings.ContainsRune(value, c) {
			return fmt.Sprintf("it holds a %c: %s", c, encodeIt)
		}
	}
	if !strings.Contains(value, "://") {
		value = "http://" + value
	}
	if badEscape(value) {
		return "it holds a percent sign without two hex digits behind it: " + encodeIt
	}
	u, err := url.Parse(value)
	switch {
	case err != nil && strings.Count(value, "/") > 2:
		return "it holds a / after the host, or in the password: " + encodeIt
	case err != nil:
		return "it is not a URL: " + formOfIt
	case !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme):
		return "its scheme is none of http, https, socks5 and socks5h"
	case u.Hostname() == "":
		return "it names no host: " + formOfIt
	case u.Path != "" && u.Path != "/":
		return "it holds a / after the host, or in the password: " + encodeIt
	case !portOK(u):
		return "its port is not a number from 1 to 65535"
	}
	return ""
}

func portOK(u *url.URL) bool {
	if u.Port() == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	n, err := strconv.Atoi(u.Port())
	return err == nil && n > 0 && n < 1<<16
}

// badEscape finds a percent sign that two hex digits do not follow (RFC 3986 section 2.1).
func badEscape(s string) bool {
	_, err := url.PathUnescape(s)
	return err != nil
}

// noProxyFault says which kind of entry Go would ignore; "" if none.
func noProxyFault(value string) string {
	for _, entry := range strings.Split(value, ",") {
		entry = strings.TrimSpace(entry)
		_, _, err := net.ParseCIDR(entry)
		switch {
		case strings.ContainsFunc(entry, unicode.IsSpace):
			return "it holds a space within an entry: separate entries by commas"
		case strings.Contains(entry, "://"):
			return "it holds a URL: write hosts, domains, addresses or networks, separated by commas"
		case strings.Contains(entry, "/") && err != nil:
			return "it holds an entry with a / that is not a network: write ADDRESS/BITS"
		}
	}
	return ""
}
