package consumer

import "context"

type aiProperties struct {
	State      *string `json:"provisioningState"`
	Encryption *struct {
		KeySource          *string `json:"keySource"`
		KeyVaultProperties *struct {
			KeyVaultURI      *string `json:"keyVaultUri"`
			KeyName          *string `json:"keyName"`
			KeyVersion       *string `json:"keyVersion"`
			IdentityClientID *string `json:"identityClientId"`
		} `json:"keyVaultProperties"`
	} `json:"encryption"` // absent: Microsoft's key
}

// aiAccount reads an account of AI services. It names the version in use itself, because it follows none.
func aiAccount(ctx context.Context, c *Client, id string) ([]sight, error) {
	r, err := read[aiProperties](ctx, c, id, "")
	if err != nil {
		return nil, err
	}
	s, err := aiSight(id, r)
	if err != nil {
		return nil, call{op: opGet, id: id}.fail(err)
	}
	return []sight{s}, nil
}

func aiSight(id string, r resource[aiProperties]) (sight, error) {
	s, p := newSight(id), r.Properties
	s.callers = r.Identity.system()
	if p.Encryption == nil {
		return s, nil
	}
	own, err := isOneOf(p.Encryption.KeySource, "Microsoft.KeyVault", "Microsoft.CognitiveServices",
		"properties.encryption.keySource")
	if err != nil || !own {
		return s, err
	}
	k := p.Encryption.KeyVaultProperties
	if k == nil {
		return s, missing("properties.encryption.keyVaultProperties")
	}
	if s.key, err = newKeyRef(orEmpty(k.KeyVaultURI), orEmpty(k.KeyName), orEmpty(k.KeyVersion)); err != nil {
		return s, err
	}
	s.callers = r.Identity.client(orEmpty(k.IdentityClientID))
	if settled(p.State) {
		s.uses = s.key.version
	}
	return s, nil
}
