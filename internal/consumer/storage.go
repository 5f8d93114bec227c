package consumer

import (
	"context"
	"strings"
	"time"
)

type storageProperties struct {
	Encryption *struct {
		KeySource          *string `json:"keySource"`
		KeyVaultProperties *struct {
			KeyVaultURI *string    `json:"keyvaulturi"`
			KeyName     *string    `json:"keyname"`
			KeyVersion  *string    `json:"keyversion"`
			Current     *string    `json:"currentVersionedKeyIdentifier"`
			Rotated     *time.Time `json:"lastKeyRotationTimestamp"`
		} `json:"keyvaultproperties"`
		Identity struct {
			UserAssigned *string `json:"userAssignedIdentity"`
			Application  *string `json:"federatedIdentityClientId"`
		} `json:"identity"`
	} `json:"encryption"`
}

// storageCallers are who calls the vault for an account and for its scopes.
func storageCallers(r resource[storageProperties]) []string {
	e := r.Properties.Encryption
	if e == nil || acrossTenants(e.Identity.Application) {
		return nil
	}
	return r.Identity.user(orEmpty(e.Identity.UserAssigned))
}

// storageAccount reads an account and its encryption scopes. Scopes under Microsoft's key are none of keyd's business.
func storageAccount(ctx context.Context, c *Client, id string) ([]sight, error) {
	r, err := read[storageProperties](ctx, c, id, "")
	if err != nil {
		return nil, err
	}
	account, err := accountSight(id, r)
	if err != nil {
		return nil, call{op: opGet, id: id}.fail(err)
	}
	scopes, err := children[scopeProperties](ctx, c, id, "encryptionScopes", "encryption scopes")
	if err != nil {
		return nil, err
	}
	all := []sight{account}
	for _, s := range scopes {
		scope, own, err := scopeSight(*s.ID, *s.Properties)
		if err != nil {
			return nil, call{op: opGet, id: *s.ID}.fail(err)
		}
		if own {
			scope.callers = account.callers
			all = append(all, scope)
		}
	}
	return all, nil
}

func accountSight(id string, r resource[storageProperties]) (sight, error) {
	s := newSight(id)
	e := r.Properties.Encryption
	if e == nil {
		return s, missing("properties.encryption")
	}
	s.callers = storageCallers(r)
	own, err := isOneOf(e.KeySource, "Microsoft.Keyvault", "Microsoft.Storage", "properties.encryption.keySource")
	if err != nil || !own {
		return s, err
	}
	k := e.KeyVaultProperties
	if k == nil {
		return s, missing("properties.encryption.keyvaultproperties")
	}
	to, err := newKeyRef(orEmpty(k.KeyVaultURI), orEmpty(k.KeyName), orEmpty(k.KeyVersion))
	if err != nil {
		return s, err
	}
	s.follows, s.since = to.version == "", orZero(k.Rotated)
	return s, s.set(to, orEmpty(k.Current))
}

type scopeProperties struct {
	Source             *string `json:"source"`
	KeyVaultProperties *struct {
		KeyURI  *string    `json:"keyUri"`
		Current *string    `json:"currentVersionedKeyIdentifier"`
		Rotated *time.Time `json:"lastKeyRotationTimestamp"`
	} `json:"keyVaultProperties"`
}

// encryptionScope reads one scope that the configuration names itself, and its account for the identity.
func encryptionScope(ctx context.Context, c *Client, id string) ([]sight, error) {
	k := call{op: opGet, id: id}
	r, err := read[scopeProperties](ctx, c, id, "")
	if err != nil {
		return nil, err
	}
	s, _, err := scopeSight(id, *r.Properties)
	if err != nil {
		return nil, k.fail(err)
	}
	parent := id[:strings.LastIndexByte(id[:strings.LastIndexByte(id, '/')], '/')]
	account, err := read[storageProperties](ctx, c, parent, "")
	if err != nil {
		return nil, err
	}
	s.callers = storageCallers(account)
	return []sight{s}, nil
}

// scopeSight reads one scope. A scope that is turned off is read like any other: it can be turned on again. own: it has
// a customer's key.
func scopeSight(id string, p scopeProperties) (s sight, own bool, err error) {
	s = newSight(id)
	own, err = isOneOf(p.Source, "Microsoft.KeyVault", "Microsoft.Storage", "properties.source")
	if err != nil || !own {
		return s, false, err
	}
	if p.KeyVaultProperties == nil {
		return s, true, missing("properties.keyVaultProperties")
	}
	to, err := parseKeyRef(orEmpty(p.KeyVaultProperties.KeyURI))
	if err != nil {
		return s, true, err
	}
	s.follows, s.since = to.version == "", orZero(p.KeyVaultProperties.Rotated)
	return s, true, s.set(to, orEmpty(p.KeyVaultProperties.Current))
}
