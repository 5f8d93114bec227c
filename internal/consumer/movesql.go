package consumer

import (
	"context"
	"net/http"
	"strings"
)

// protected is the sequence of a server whose TDE protector is a resource of its own.
func protected(first func(context.Context, *Client, string, keyRef) error) sequence {
	return sequence{sights: sightOf(protectorSight), first: first, part: "/encryptionProtector/current",
		method: http.MethodPut, change: changeProtector}
}

// protectorSight reads a protector by its own id.
func protectorSight(id string, r resource[protectorProperties]) (sight, error) {
	s := newSight(strings.TrimSuffix(id, "/encryptionProtector/current"))
	ref, err := r.Properties.key()
	s.key, s.uses = ref, ref.version
	s.follows = ref.name != "" && r.Properties.Follows != nil && *r.Properties.Follows
	return s, err
}

// changeProtector names the server key, which must be there already.
func changeProtector(have settings, _, to keyRef) (settings, error) {
	p := have.at("properties").only("serverKeyType", "autoRotationEnabled")
	return properties(p.with("serverKeyName", serverKeyName(to))), nil
}

// serverKeyName is the only name that Azure takes for a server key.
func serverKeyName(k keyRef) string {
	host, _, _ := strings.Cut(strings.TrimPrefix(k.vault, "https://"), ".")
	return host + "_" + k.name + "_" + k.version
}

// serverKeysFirst makes a key known to all servers that have copies of a server's databases, and then to the server
// itself: a protector that a secondary does not know would end the replication.
func serverKeysFirst(ctx context.Context, c *Client, id string, to keyRef) error {
	partners, err := serverPartners(ctx, c, id)
	if err != nil {
		return err
	}
	return serverKeys(ctx, c, id, partners, to)
}

func instanceKeysFirst(ctx context.Context, c *Client, id string, to keyRef) error {
	owner, err := read[sqlProperties](ctx, c, id, "")
	if err != nil {
		return err
	}
	partners, err := instancePartners(ctx, c, id, orEmpty(owner.Location))
	if err != nil {
		return err
	}
	return serverKeys(ctx, c, id, partners, to)
}

func serverKeys(ctx context.Context, c *Client, id string, partners []string, to keyRef) error {
	done := map[string]bool{strings.ToLower(id): true}
	var all []string
	for _, p := range partners {
		if lower := strings.ToLower(p); !done[lower] {
			done[lower] = true
			all = append(all, p)
		}
	}
	if len(all) >= mostPartners {
		return badAnswerf("it has more than %d partners", mostPartners)
	}
	for _, server := range append(all, id) {
		if err := serverKey(ctx, c, server, to); err != nil {
			return err
		}
	}
	return nil
}

// serverKey makes a key known to a server, unless the server knows it.
func serverKey(ctx context.Context, c *Client, server string, to keyRef) error {
	keys, err := children[protectorProperties](ctx, c, server, "keys", "server keys")
	if err != nil {
		return err
	}
	for _, k := range keys {
		ref, err := k.Properties.key()
		if err != nil {
			return err
		}
		if ref.sameKey(to) && ref.version == to.version {
			return nil
		}
	}
	k := call{op: opServerKey, id: server}
	body := properties(settings{"serverKeyType": "AzureKeyVault", "uri": to.String()})
	began, _, err := c.write(ctx, k, http.MethodPut, server+"/keys/"+serverKeyName(to), "", body)
	if err != nil {
		return err
	}
	return c.await(ctx, k, began)
}

// databaseSight reads a database with a protector of its own.
func databaseSight(id string, r resource[databaseProperties]) (sight, error) {
	s := newSight(id)
	uri := orEmpty(r.Properties.Protector)
	if uri == "" {
		return s, nil
	}
	ref, err := parseKeyRef(uri)
	s.key, s.uses = ref, ref.version
	s.follows = r.Properties.Follows != nil && *r.Properties.Follows
	return s, err
}

// changeDatabase keeps the identity and the other keys of the database, and adds the new one to them.
func changeDatabase(have settings, _, to keyRef) (settings, error) {
	p := have.at("properties")
	next := p.only("federatedClientId", "encryptionProtectorAutoRotation").with("encryptionProtector", to.String())
	if known := p.at("keys"); len(known) > 0 {
		keys := settings{to.String(): settings{}}
		for uri := range known {
			keys[uri] = settings{}
		}
		next["keys"] = keys
	}
	body := properties(next)
	if i := assigned(have); i != nil {
		body["identity"] = i
	}
	return body, nil
}
