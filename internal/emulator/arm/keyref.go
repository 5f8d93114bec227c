package arm

import (
	"net/url"
	"regexp"
	"strings"
)

// keyRef names a key in a vault, or one version of it.
type keyRef struct {
	vault   string // https://HOST, without a slash at the end
	name    string
	version string // "": none is named
}

var (
	vaultURL   = regexp.MustCompile(`^https://[0-9a-z.-]+$`)
	keyName    = regexp.MustCompile(`^[0-9a-zA-Z-]{1,127}$`)
	keyVersion = regexp.MustCompile(`^[0-9a-fA-F]{32}$`)
)

// VaultHost returns the host of a key's URL in lower case, or "" if the URL is not a
// vault's. A vault writes its port, 443, into some of its URLs.
func VaultHost(u *url.URL) string {
	if u.Scheme != "https" || u.User != nil || (u.Port() != "" && u.Port() != "443") {
		return ""
	}
	return strings.ToLower(u.Hostname())
}

// parseKeyRef reads https://HOST/keys/NAME or https://HOST/keys/NAME/VERSION.
func parseKeyRef(s string) (keyRef, error) {
	u, err := url.Parse(s)
	if err != nil || VaultHost(u) == "" {
		return keyRef{},
			badKey("The key identifier %q must be https://VAULT/keys/NAME or https://VAULT/keys/NAME/VERSION.", s)
	}
	segments := strings.Split(strings.Trim(u.Path, "/"), "/")
	if len(segments) < 2 || len(segments) > 3 || segments[0] != "keys" {
		return keyRef{},
			badKey("The key identifier %q must be https://VAULT/keys/NAME or https://VAULT/keys/NAME/VERSION.", s)
	}
	k := keyRef{vault: "https://" + VaultHost(u), name: segments[1]}
	if len(segments) == 3 {
		k.version = segments[2]
	}
	return k, k.check()
}

// newKeyRef is for services with separate fields for vault, key and version.
func newKeyRef(vault, name, version string) (keyRef, error) {
	k, err := parseKeyRef(strings.TrimSuffix(vault, "/") + "/keys/" + name)
	if err != nil {
		return keyRef{}, err
	}
	k.version = version
	return k, k.check()
}

func (k keyRef) check() error {
	if !vaultURL.MatchString(k.vault) || !keyName.MatchString(k.name) {
		return badKey("The key vault %q and the key name %q do not name a key.", k.vault, k.name)
	}
	if k.version != "" && !keyVersion.MatchString(k.version) {
		return badKey("The key version %q is not 32 hexadecimal digits.", k.version)
	}
	return nil
}

// String is the key's identifier.
func (k keyRef) String() string {
	s := k.vault + "/keys/" + k.name
	if k.version != "" {
		s += "/" + k.version
	}
	return s
}

// at returns the same key with another version.
func (k keyRef) at(version string) keyRef {
	k.version = version
	return k
}

// audience returns the token audience of the vault's cloud.
func (k keyRef) audience() string {
	_, domain, _ := strings.Cut(strings.TrimPrefix(k.vault, "https://"), ".")
	return "https://" + domain
}
