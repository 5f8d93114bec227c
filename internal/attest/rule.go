package attest

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Rule is what the configuration asks of the attestations of one vault. The zero value asks for none.
type Rule struct {
	Required bool   `json:"required"`
	Roots    []Root `json:"roots"`
	KEK      string `json:"kek"` // the name of the vault's KEK
	// PartitionRoot pins the pool; "": any.
	PartitionRoot key.Fingerprint `json:"partition_root,omitempty"`
	// Alone: no fingerprint pins the KEK, so the pinned pool must vouch for it.
	Alone bool `json:"alone,omitempty"`
}

// OfKEK verifies the attestation of a KEK: of this very key, under the name that the configuration gives it.
func (r Rule) OfKEK(kek key.KEK, at time.Time) (Facts, error) {
	name, version, err := nameOf(kek.Kid)
	if err != nil {
		return Facts{}, err
	}
	if !key.SameName(name, r.KEK) {
		return Facts{}, fmt.Errorf("its name is %s, and the configuration names the key %s (kek.name)", name, r.KEK)
	}
	f, err := Verify([]byte(kek.Attestation), r.Roots, Expect{
		Key: name, Version: version, Fingerprint: kek.Material.Fingerprint(), PartitionRoot: r.PartitionRoot,
	}, at)
	if err == nil && r.Alone && f.Decrypt {
		return Facts{}, errors.New("its attestation says that it decrypts, so others could read what is wrapped " +
			"to it: pin its fingerprint if it is the right one")
	}
	return f, err
}

// nameOf returns name and version of a kid: https://HOST/keys/NAME/VERSION.
func nameOf(kid string) (name, version string, err error) {
	u, err := url.Parse(kid)
	if err != nil {
		return "", "", fmt.Errorf("%q is not the id of a key: %w", kid, err)
	}
	parts := strings.Split(u.Path, "/")
	if len(parts) != 4 || parts[1] != "keys" {
		return "", "", fmt.Errorf("%q is not the id of a key", kid)
	}
	return parts[2], parts[3], nil
}
