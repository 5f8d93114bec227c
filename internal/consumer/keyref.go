package consumer

import (
	"errors"
	"net/url"
	"strings"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/vault"
)

// keyRef names a key in a vault, or one version of it. The zero value names none: the service's own key.
type keyRef struct {
	vault   string // URL, as key.Vault has it
	name    string
	version string // "": none is named
}

// parseKeyRef reads https://HOST/keys/NAME or https://HOST/keys/NAME/VERSION.
func parseKeyRef(text string) (keyRef, error) {
	u, err := url.Parse(text)
	if err != nil {
		return keyRef{}, badAnswerf("%q is not the id of a key", vault.OneLine(text))
	}
	origin, err := key.Origin(u)
	if err == nil && (u.RawQuery != "" || u.Fragment != "") {
		err = errors.New("it has more than a path")
	}
	if err != nil {
		return keyRef{}, badAnswerf("%q is not the id of a key: %v", vault.OneLine(text), err)
	}
	parts := strings.Split(strings.TrimSuffix(u.Path, "/"), "/")
	if len(parts) < 3 || len(parts) > 4 || parts[0] != "" || parts[1] != "keys" || !key.ValidName(parts[2]) {
		return keyRef{}, badAnswerf("%q is not the id of a key", vault.OneLine(text))
	}
	ref := keyRef{vault: origin, name: parts[2]}
	if len(parts) == 4 {
		return ref.at(parts[3])
	}
	return ref, nil
}

// newKeyRef is for services with separate fields for vault, key and version.
func newKeyRef(vaultURL, name, version string) (keyRef, error) {
	ref, err := parseKeyRef(strings.TrimSuffix(vaultURL, "/") + "/keys/" + name)
	switch {
	case err != nil:
		return keyRef{}, err
	case ref.version != "": // a slash in the name
		return keyRef{}, badAnswerf("%q is not the name of a key", vault.OneLine(name))
	case version == "":
		return ref, nil
	}
	return ref.at(version)
}

// at is a version of the key.
func (r keyRef) at(version string) (keyRef, error) {
	id, err := key.ParseID(strings.ToLower(version))
	if err != nil {
		return keyRef{}, badAnswerf("%q is not a version of a key", vault.OneLine(version))
	}
	r.version = string(id)
	return r, nil
}

// sameKey reports whether two versions are of the same key.
func (r keyRef) sameKey(other keyRef) bool {
	return r.vault == other.vault && key.SameName(r.name, other.name)
}

// of reports whether the key is that of a policy, in one of its vaults.
func (r keyRef) of(p key.Policy) bool {
	_, known := p.Vault(r.vault)
	return known && key.SameName(r.name, p.Key)
}

func (r keyRef) String() string {
	s := r.vault + "/keys/" + r.name
	if r.version != "" {
		s += "/" + r.version
	}
	return s
}
