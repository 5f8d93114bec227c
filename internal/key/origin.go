package key

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// originHost is a DNS name as vaults have them. A dot at its end would be another
// name to TLS and to the vault, and a letter outside ASCII another host that looks
// like it.
var originHost = regexp.MustCompile(`^[0-9A-Za-z]([0-9A-Za-z.-]*[0-9A-Za-z])?$`)

// Origin says to which vault a URL leads, in the one spelling in which keyd compares:
// https://HOST, HOST in lower case. The port 443 is the same place as none (RFC 3986
// section 6.2.3): Key Vault writes it in a listing's nextLink, and a Managed HSM in
// the ids of keys. Another port stays behind the host. The error says what makes the
// URL none of a vault.
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

// shortURL names a URL without its user, path and query.
func shortURL(u *url.URL) string { return u.Scheme + "://" + u.Host }

// SameOrigin reports whether a URL leads to the vault whose URL is vault, in the form
// of Vault.URL.
func SameOrigin(u *url.URL, vault string) bool {
	origin, err := Origin(u)
	return err == nil && origin == vault
}
