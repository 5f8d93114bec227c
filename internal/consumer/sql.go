package consumer

import (
	"context"
	"strings"

	"github.com/keyd-project/keyd/internal/vault"
)

// protectorProperties are those of the TDE protector of a server or a managed instance, and of a server key.
type protectorProperties struct {
	KeyType *string `json:"serverKeyType"`
	URI     *string `json:"uri"`
	Follows *bool   `json:"autoRotationEnabled"` // absent: false
}

type sqlProperties struct {
	PrimaryUser *string `json:"primaryUserAssignedIdentityId"`
	Application *string `json:"federatedClientId"`
}

// key is the key that a protector or a server key names; the zero value: the service's own.
func (p protectorProperties) key() (keyRef, error) {
	own, err := isOneOf(p.KeyType, "AzureKeyVault", "ServiceManaged", "properties.serverKeyType")
	if err != nil || !own {
		return keyRef{}, err
	}
	return parseKeyRef(orEmpty(p.URI))
}

// protector reads the TDE protector of a server or a managed instance, and its server keys. What is listed there may
// still be needed by log files and backups.
func protector(ctx context.Context, c *Client, id string) (s sight, owner resource[sqlProperties], err error) {
	s = newSight(id)
	if owner, err = read[sqlProperties](ctx, c, id, ""); err != nil {
		return s, owner, err
	}
	if !acrossTenants(owner.Properties.Application) {
		s.callers = owner.Identity.user(orEmpty(owner.Properties.PrimaryUser))
	}
	r, err := read[protectorProperties](ctx, c, id, "/encryptionProtector/current")
	if err != nil {
		return s, owner, err
	}
	k := call{op: opGet, id: id}
	if s.key, err = r.Properties.key(); err != nil {
		return s, owner, k.fail(err)
	}
	s.uses = s.key.version
	s.follows = s.key.name != "" && r.Properties.Follows != nil && *r.Properties.Follows
	keys, err := children[protectorProperties](ctx, c, id, "keys", "server keys")
	if err != nil {
		return s, owner, err
	}
	for _, listed := range keys {
		ref, err := listed.Properties.key()
		if err != nil {
			return s, owner, k.fail(err)
		}
		if ref.name != "" && ref != s.key {
			s.needs = append(s.needs, ref)
		}
	}
	return s, owner, nil
}

type databaseProperties struct {
	Protector   *string              `json:"encryptionProtector"` // absent: the server's
	Follows     *bool                `json:"encryptionProtectorAutoRotation"`
	Application *string              `json:"federatedClientId"`
	Keys        map[string]*struct{} `json:"keys"`
}

// databases reads the databases of a server that have a protector of their own. The list shows the protector, and only
// the database itself the keys that it still needs.
func databases(ctx context.Context, c *Client, server string) (own []sight, err error) {
	all, err := children[databaseProperties](ctx, c, server, "databases", "databases")
	if err != nil {
		return nil, err
	}
	for _, d := range all {
		if orEmpty(d.Properties.Protector) == "" && len(d.Identity.UserAssigned) == 0 {
			continue
		}
		s, err := database(ctx, c, *d.ID)
		if err != nil {
			return nil, err
		}
		if s.key.name != "" || len(s.needs) > 0 {
			own = append(own, s)
		}
	}
	return own, nil
}

// sqlDatabase reads a database that the configuration names itself.
func sqlDatabase(ctx context.Context, c *Client, id string) ([]sight, error) {
	s, err := database(ctx, c, id)
	if err != nil {
		return nil, err
	}
	if s.key.name == "" {
		s.err = trouble(id, "name its server in consumers: instead",
			"it has no protector of its own, and uses that of its server")
	}
	return []sight{s}, nil
}

func database(ctx context.Context, c *Client, id string) (sight, error) {
	s := newSight(id)
	r, err := read[databaseProperties](ctx, c, id, "?$expand=keys")
	if err != nil {
		return s, err
	}
	k := call{op: opGet, id: id}
	if !acrossTenants(r.Properties.Application) {
		s.callers = r.Identity.users()
	}
	if uri := orEmpty(r.Properties.Protector); uri != "" {
		if s.key, err = parseKeyRef(uri); err != nil {
			return s, k.fail(err)
		}
		s.uses = s.key.version
		s.follows = r.Properties.Follows != nil && *r.Properties.Follows
	}
	for uri := range r.Properties.Keys {
		ref, err := parseKeyRef(uri)
		if err != nil {
			return s, k.fail(err)
		}
		if ref != s.key {
			s.needs = append(s.needs, ref)
		}
	}
	return s, nil
}

// mostPartners bounds how many servers keyd looks at for one that the configuration names.
const mostPartners = 16

// sqlServer reads a server, the databases that have a protector of their own, and in the same way every server that has
// copies of its databases.
func sqlServer(ctx context.Context, c *Client, id string) ([]sight, error) {
	return withPartners(ctx, c, id, func(id string) ([]sight, []string, error) {
		server, _, err := protector(ctx, c, id)
		if err != nil {
			return nil, nil, err
		}
		own, err := databases(ctx, c, id)
		if err != nil {
			return nil, nil, err
		}
		partners, err := serverPartners(ctx, c, id)
		return append([]sight{server}, own...), partners, err
	})
}

// withPartners looks at a server, at its partners, and at theirs. look returns what it saw of one, and who its partners
// are.
func withPartners(
	ctx context.Context, c *Client, id string, look func(string) ([]sight, []string, error),
) (all []sight, err error) {
	known := map[string]bool{strings.ToLower(id): true}
	for waiting := []string{id}; len(waiting) > 0; waiting = waiting[1:] {
		seen, partners, err := look(waiting[0])
		if err != nil {
			return nil, err
		}
		all = append(all, seen...)
		for _, p := range partners {
			if lower := strings.ToLower(p); !known[lower] {
				known[lower] = true
				waiting = append(waiting, p)
			}
		}
		if len(known) > mostPartners {
			return nil, call{op: opChildren, id: id, part: "partners"}.fail(
				badAnswerf("there are more than %d", mostPartners))
		}
	}
	return all, nil
}

// serverPartners are the servers of a server's failover groups, and of the links by which its databases are copied.
func serverPartners(ctx context.Context, c *Client, id string) (partners []string, err error) {
	groups, err := children[struct {
		Partners []struct {
			ID *string `json:"id"`
		} `json:"partnerServers"`
	}](ctx, c, id, "failoverGroups", "failover groups")
	if err != nil {
		return nil, err
	}
	k := call{op: opChildren, id: id, part: "partners"}
	for _, g := range groups {
		for _, p := range g.Properties.Partners {
			if !isOf(orEmpty(p.ID), sqlServerType) {
				return nil, k.fail(badAnswerf("a failover group names the partner %q", vault.OneLine(orEmpty(p.ID))))
			}
			partners = append(partners, *p.ID)
		}
	}
	links, err := list[resource[struct {
		PartnerDatabase *string `json:"partnerDatabaseId"`
	}]](ctx, c, call{op: opChildren, id: id, part: "replication links"}, id+"/replicationLinks", apiVersionOf(id))
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		if l.Properties == nil {
			return nil, k.fail(missing("properties of a replication link"))
		}
		server, _, found := strings.Cut(orEmpty(l.Properties.PartnerDatabase), "/databases/")
		if !found || !isOf(server, sqlServerType) {
			return nil, k.fail(badAnswerf("a replication link names the partner database %q",
				vault.OneLine(orEmpty(l.Properties.PartnerDatabase))))
		}
		partners = append(partners, server)
	}
	return partners, nil
}
