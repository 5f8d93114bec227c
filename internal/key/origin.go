package key

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// originHost matches the DNS names that vaults have. It excludes a dot at the end, with which TLS and the vault see
// another name, and letters outside ASCII, which may make another host look the same.
var originHost = regexp.MustCompile(`^[0-9A-Za-z]([0-9A-Za-z.-]*[0-9A-Za-z])?$`)

// Origin returns the vault that a URL leads to, in the one form that keyd compares: https://HOST, with HOST in lower
// case. It drops port 443, the default (RFC 3986 section 6.2.3), which Key Vault writes in a listing's nextLink and a
// Managed HSM in the ids of keys. It keeps any other port. The error says why the URL cannot be a vault's.
func Origin(u *url.URL) (string, error) {
	host, port := u.Hostname(), u.Port()
	switch {
	case u.Scheme != "https":
		return "", fmt.Errorf("%s is not https", shortURL(u))
	case u.User != nil:
		return "", fmt.Errorf("the URL of %s has a user", shortURL(u))
	case !originHost.MatchString(host):
		return "", fmt.Errorf("%q is not the name of a host", u.Host)
	}
	origin := "https://" + strings.ToLower(host)
	if port != "" && port != "443" {
		origin += ":" + port
	}
	return origin, nil
}

// shortURL returns a URL without its user, path and query.
func shortURL(u *url.URL) string { return u.Scheme + "://" + u.Host }

// SameOrigin reports whether a URL leads to the vault with the URL vault, written as in Vault.URL.
func SameOrigin(u *url.URL, vault string) bool {
	origin, err := Origin(u)
	return err == nil && origin == vault
}
