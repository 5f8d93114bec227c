package consumer

import "context"

type eventHubsProperties struct {
	State      *string `json:"provisioningState"`
	Encryption *struct {
		KeySource          *string `json:"keySource"`
		KeyVaultProperties []struct {
			KeyName     *string `json:"keyName"`
			KeyVaultURI *string `json:"keyVaultUri"`
			KeyVersion  *string `json:"keyVersion"`
			Identity    struct {
				UserAssigned *string `json:"userAssignedIdentity"`
			} `json:"identity"`
		} `json:"keyVaultProperties"`
	} `json:"encryption"` // absent: Microsoft's key
}

// eventHubs reads a namespace, once for each of its keys: it can have three. It shows the version in use only where it
// names that version.
func eventHubs(ctx context.Context, c *Client, id string) ([]sight, error) {
	r, err := read[eventHubsProperties](ctx, c, id, "")
	if err != nil {
		return nil, err
	}
	all, err := eventHubsSights(id, r)
	if err != nil {
		return nil, call{op: opGet, id: id}.fail(err)
	}
	return all, nil
}

func eventHubsSights(id string, r resource[eventHubsProperties]) (all []sight, err error) {
	e := r.Properties.Encryption
	if e == nil {
		return []sight{newSight(id)}, nil
	}
	own, err := isOneOf(e.KeySource, "Microsoft.KeyVault", "Microsoft.EventHub", "properties.encryption.keySource")
	switch {
	case err != nil:
		return nil, err
	case !own:
		return []sight{newSight(id)}, nil
	}
	for _, k := range e.KeyVaultProperties {
		s := newSight(id)
		if s.key, err = newKeyRef(orEmpty(k.KeyVaultURI), orEmpty(k.KeyName), orEmpty(k.KeyVersion)); err != nil {
			return nil, err
		}
		s.follows = s.key.version == ""
		if settled(r.Properties.State) {
			s.uses = s.key.version
		}
		s.callers = r.Identity.user(orEmpty(k.Identity.UserAssigned))
		all = append(all, s)
	}
	if len(all) == 0 {
		return nil, missing("properties.encryption.keyVaultProperties")
	}
	return all, nil
}
