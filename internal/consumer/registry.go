package consumer

import (
	"context"
	"time"
)

type registryProperties struct {
	Encryption *struct {
		Status             *string `json:"status"`
		KeyVaultProperties *struct {
			KeyIdentifier *string    `json:"keyIdentifier"`
			Versioned     *string    `json:"versionedKeyIdentifier"`
			Follows       *bool      `json:"keyRotationEnabled"`
			Rotated       *time.Time `json:"lastKeyRotationTimestamp"`
			Identity      *string    `json:"identity"` // client id
		} `json:"keyVaultProperties"`
	} `json:"encryption"` // absent: Microsoft's key
}

// containerRegistry reads a container registry.
func containerRegistry(ctx context.Context, c *Client, id string) ([]sight, error) {
	r, err := read[registryProperties](ctx, c, id, "")
	if err != nil {
		return nil, err
	}
	s, err := registrySight(id, r)
	if err != nil {
		return nil, call{op: opGet, id: id}.fail(err)
	}
	return []sight{s}, nil
}

func registrySight(id string, r resource[registryProperties]) (sight, error) {
	s, e := newSight(id), r.Properties.Encryption
	if e == nil {
		return s, nil
	}
	own, err := isOneOf(e.Status, "enabled", "disabled", "properties.encryption.status")
	if err != nil || !own {
		return s, err
	}
	k := e.KeyVaultProperties
	if k == nil {
		return s, missing("properties.encryption.keyVaultProperties")
	}
	to, err := parseKeyRef(orEmpty(k.KeyIdentifier))
	if err != nil {
		return s, err
	}
	s.callers = r.Identity.client(orEmpty(k.Identity))
	s.follows = to.version == "" && (k.Follows == nil || *k.Follows)
	s.since = orZero(k.Rotated)
	return s, s.set(to, orEmpty(k.Versioned))
}
