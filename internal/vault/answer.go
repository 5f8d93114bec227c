package vault

import (
	"net/url"
	"slices"
	"strings"
	"time"
	"unique"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/keyd-project/keyd/internal/key"
)

// versionID returns the version in a key id. The id must belong to this vault and this key:
// https://HOST/keys/NAME/VERSION.
func (c *Client) versionID(kid *azkeys.ID, name string) (string, error) {
	if kid == nil {
		return "", badAnswerf("it has no key id")
	}
	u, err := url.Parse(string(*kid))
	if err != nil {
		return "", badAnswerf("the key id is not a URL")
	}
	parts := strings.Split(u.Path, "/")
	if !key.SameOrigin(u, c.cfg.Vault.URL) || len(parts) != 4 ||
		parts[1] != "keys" || !strings.EqualFold(parts[2], name) {
		return "", badAnswerf("the key id %s is not a version of %s in this vault", oneLine(string(*kid)), name)
	}
	if _, err := key.ParseID(parts[3]); err != nil {
		return "", badAnswerf("version %v", err)
	}
	return parts[3], nil
}

// fromBundle converts the answer about a single key. It accepts keys of a kind that keyd does not make, as
// unsupported material, because keyd must see foreign versions.
func (c *Client) fromBundle(b azkeys.KeyBundle, name string) (key.Version, error) {
	if b.Key == nil {
		return key.Version{}, badAnswerf("it has no key")
	}
	v, err := c.fromAttributes(b.Key.KID, b.Attributes, b.Tags, name)
	if err != nil {
		return key.Version{}, err
	}
	if b.Key.Kty == nil || *b.Key.Kty == "" {
		return key.Version{}, badAnswerf("the key has no kty")
	}
	v.Kty = string(*b.Key.Kty)
	for _, op := range b.Key.KeyOps {
		if op != nil {
			v.Operations = append(v.Operations, key.Operation(*op))
		}
	}
	if v.Material, err = material(b.Key); err == nil {
		c.gate.saw(name, v)
	}
	return v, err
}

func (c *Client) fromAttributes(
	kid *azkeys.ID, a *azkeys.KeyAttributes, tags map[string]*string, name string,
) (key.Version, error) {
	id, err := c.versionID(kid, name)
	if err != nil {
		return key.Version{}, err
	}
	if a == nil || a.Created == nil || a.Enabled == nil {
		return key.Version{}, badAnswerf("version %s lacks its attributes created and enabled", id)
	}
	v := key.Version{ID: id, Created: a.Created.UTC(), Updated: utc(a.Updated), Enabled: *a.Enabled,
		Expires: utc(a.Expires), NotBefore: utc(a.NotBefore), Tags: plainTags(tags)}
	if a.RecoveryLevel != nil {
		v.Recovery = *a.RecoveryLevel
	}
	return v, nil
}

// utc is the time that an attribute shows; zero for none.
func utc(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

func plainTags(tags map[string]*string) map[string]string {
	if len(tags) == 0 {
		return nil
	}
	plain := make(map[string]string, len(tags))
	for tag, value := range tags {
		if value != nil {
			plain[unique.Make(tag).Value()] = *value // all versions have the same few tags, which share memory
		}
	}
	return plain
}

// material returns the material of a JSON Web Key. The caller has checked that kty is not nil.
func material(k *azkeys.JSONWebKey) (key.Material, error) {
	if *k.Kty != azkeys.KeyTypeRSA && *k.Kty != azkeys.KeyTypeRSAHSM {
		return key.UnsupportedMaterial(), nil
	}
	m, err := key.FromJWK(k.N, k.E)
	if err != nil {
		return key.Material{}, badAnswerf("%v", err)
	}
	return m, nil
}

// sameOperations compares two sets of operations: a Managed HSM lists them in any order.
func sameOperations(a, b []key.Operation) bool {
	if len(a) != len(b) {
		return false
	}
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}
