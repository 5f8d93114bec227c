package arm

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// sqlDatabase is a database of a SQL server. It can have a protector of its own, which it uses with a user-assigned
// identity of its own. Without one, its data are the server's. A geo-secondary has its primary's data: its own server
// must be able to unwrap them.
var sqlDatabase = &kind{
	word: "sqldb", path: sqlServer.path + "/databases",
	delay: time.Hour, bits: []int{2048, 3072}, needsVersion: true, codes: sqlCodes,
	puts: byAcceptance, patches: byAcceptance,
	parent: sqlServer, ownIdentity: true,
	keeps: sqlServer.keeps,
	wants: func(c *consumer, d document) (want, error) {
		uri := d.text("properties", "encryptionProtector")
		if uri == "" {
			return want{}, c.canReplicate(d)
		}
		key, err := parseKeyRef(uri)
		if err != nil {
			return want{}, err
		}
		w := want{key: key, follows: d.flag("properties", "encryptionProtectorAutoRotation")}
		for user := range d.sub("identity", "userAssignedIdentities") {
			w.who = identity{resourceID: user}
			return w, nil
		}
		return w, badKey("The database %s has no user-assigned identity: a key of its own needs one.", c.name)
	},
	shows: func(c *consumer, d document) {
		d.set("Online", "properties", "status")
		if c.key != (keyRef{}) {
			d.set(c.shownActive().String(), "properties", "encryptionProtector")
		}
	},
	keyPatch: func(_ *consumer, k keyRef, follow bool) document {
		return document{"properties": document{"encryptionProtector": k.String(),
			"encryptionProtectorAutoRotation": follow}}
	},
}

func init() {
	faces[strings.ToLower(sqlServer.path+"/replicationLinks")] = (*Service).replicationLinks
	faces[strings.ToLower(sqlDatabase.path+"/replicationLinks")] = (*Service).replicationLinks
}

// primary returns the database that a geo-secondary replicates, or nil.
func (c *consumer) primary() *consumer {
	if !isReplica(c.doc) {
		return nil
	}
	return c.service.find(c.doc.text("properties", "sourceDatabaseId"))
}

func isReplica(d document) bool {
	mode := strings.ToLower(d.text("properties", "createMode"))
	return mode == "secondary" || mode == "onlinesecondary"
}

// canReplicate refuses a geo-secondary on a server that does not have the primary server's key.
func (c *consumer) canReplicate(d document) error {
	if !isReplica(d) {
		return nil
	}
	from := c.service.find(d.text("properties", "sourceDatabaseId"))
	if from == nil || from == c || from.kind != c.kind || from.parent() == nil || c.parent() == nil {
		return badKey("The source database %q was not found.", d.text("properties", "sourceDatabaseId"))
	}
	from.mu.Lock()
	chained := isReplica(from.doc)
	from.mu.Unlock()
	if chained {
		return badKey("The source database %s is a secondary itself.", from.name)
	}
	theirs, ours := from.parent(), c.parent()
	theirs.mu.Lock()
	needed := theirs.active
	theirs.mu.Unlock()
	if needed == (keyRef{}) || ours.has(needed.String()) {
		return nil
	}
	return missingThere(ours, needed.String())
}

// has reports whether a server has a server key.
func (c *consumer) has(uri string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.serverKeys()[uri]
	return ok
}

func missingThere(server *consumer, uri string) error {
	return server.kind.refuse("KeyMaterialNotFoundOnRemoteServer", "Remote server %s does not have access to key "+
		"material used as a TDE protector: put the server key %s there first.", server.name, uri)
}

// writesAbove returns the server of a database that has no key of its own, or nil.
func (c *consumer) writesAbove() *consumer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kind != sqlDatabase || c.key != (keyRef{}) {
		return nil
	}
	return c.parent()
}

// readReplica reads the primary's data with the identity of a geo-secondary's server.
func (c *consumer) readReplica(ctx context.Context, r *Reading) {
	from := c.primary()
	if from == nil || c.key != (keyRef{}) {
		return
	}
	if above := from.writesAbove(); above != nil {
		from = above
	}
	server := c.parent()
	if server == nil || server == from {
		return
	}
	from.mu.Lock()
	keys, items := from.keys, from.items
	from.mu.Unlock()
	server.mu.Lock()
	who, err := chosenIdentity(server, server.doc, server.doc.text("properties", "primaryUserAssignedIdentityId"))
	server.mu.Unlock()
	if err != nil {
		who = identity{resourceID: server.id}
	}
	c.read(ctx, r, who, keys, items, " replicated from "+from.name)
}

// secondariesHave refuses a protector of a server with geo-secondaries on servers that do not have the key.
func (s *Service) secondariesHave(server *consumer, uri string) error {
	for _, link := range s.links() {
		if link.primary.parent() != server {
			continue
		}
		if other := link.secondary.parent(); !other.has(uri) {
			return missingThere(other, uri)
		}
	}
	return nil
}

// link is a geo-replication between two databases.
type link struct{ primary, secondary *consumer }

func (s *Service) links() (links []link) {
	for _, c := range s.all() {
		if c.kind != sqlDatabase {
			continue
		}
		c.mu.Lock()
		from := c.primary()
		c.mu.Unlock()
		if from != nil && from.parent() != nil && c.parent() != nil {
			links = append(links, link{from, c})
		}
	}
	return links
}

// replicationLinks answers for servers/SERVER/replicationLinks and servers/SERVER/databases/NAME/replicationLinks.
func (s *Service) replicationLinks(_ context.Context, p place, r Request) (Response, error) {
	k := kindOfPath(p.parent().path)
	of := s.find(p.parent().id(k.path))
	switch {
	case of == nil:
		return Response{}, notFound(k.path, p.parent())
	case r.Method != http.MethodGet || !p.all():
		return Response{}, notAllowed(r.Method)
	}
	found := []document{}
	for _, l := range s.links() {
		if l.primary == of || l.primary.parent() == of {
			found = append(found, replication(l.primary, l.secondary, "Primary", "Secondary"))
		}
		if l.secondary == of || l.secondary.parent() == of {
			found = append(found, replication(l.secondary, l.primary, "Secondary", "Primary"))
		}
	}
	return s.page(r, found)
}

func replication(local, partner *consumer, role, partnerRole string) document {
	above, name := partner.parent(), guidOf(local.id+partner.id)
	return document{
		"id": local.id + "/replicationLinks/" + name, "name": name, "type": sqlDatabase.path + "/replicationLinks",
		"properties": document{
			"partnerServer": above.name, "partnerDatabase": partner.name[len(above.name)+1:],
			"partnerDatabaseId": partner.id, "partnerLocation": above.settings().text("location"),
			"role": role, "partnerRole": partnerRole, "replicationState": "CATCH_UP", "linkType": "GEO",
		},
	}
}
