package arm

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// configure makes next the consumer's document, and uses the key that next names. After
// an error the consumer is unchanged. asked is the request's own content: a request
// that names the key makes the service read it again, changed or not.
func (c *consumer) configure(ctx context.Context, next, asked document) error {
	w, err := c.kind.wants(c, next)
	if err != nil {
		return err
	}
	if err := c.mayChange(w.key); err != nil {
		return err
	}
	if c.kind.needsVersion && w.key != (keyRef{}) && w.key.version == "" {
		return badKey("The key identifier %s must have a version: %s takes no other.", w.key, c.kind.path)
	}
	if err := c.showIdentities(ctx, next); err != nil {
		return err
	}
	if w.who != (identity{}) {
		t, err := c.service.signIn(ctx, w.who, "https://management.azure.com")
		if err != nil {
			return err
		}
		w.who.clientID = t.ClientID
	}
	named, _ := c.kind.wants(c, asked) // the request was validated as part of next
	before, location := c.identity, c.location
	c.identity, c.location = w.who, c.locationIn(next)
	geo, err := c.geoFor(ctx, next)
	if err == nil && (w.key != c.key || w.who != before || named.key != (keyRef{})) {
		err = c.change(ctx, w.key)
	}
	if err != nil {
		c.identity, c.location = before, location
		return err
	}
	c.geo = geo
	if err := c.copyForGeo(ctx); err != nil {
		return err
	}
	c.doc, c.key, c.follows, c.ready = next, w.key, w.follows, true
	c.revision++
	c.trouble, c.rotationError = nil, nil
	return nil
}

// mayChange refuses to give or take away a key where the service does.
func (c *consumer) mayChange(next keyRef) error {
	mine, own := c.key != (keyRef{}), keyRef{}
	switch {
	case c.ready && c.kind.atCreation && !mine && next != own:
		return badKey("%s takes a customer-managed key only when it is made.", c.kind.path)
	case c.kind.oneVault && mine && next != own && next.vault != c.key.vault:
		return badKey("%s stays in the vault %s: its key cannot be in another one.", c.id, c.key.vault)
	case c.kind.keysOnly && mine && next == own:
		return badKey("%s has a customer-managed key, which cannot be taken away again.", c.id)
	}
	return nil
}

// locationIn is the resource's region: a child has its parent's.
func (c *consumer) locationIn(d document) string {
	if location := d.text("location"); location != "" || c.kind.parent == nil {
		return location
	}
	if p := c.parent(); p != nil {
		return p.settings().text("location")
	}
	return ""
}

// change moves the data to another key.
func (c *consumer) change(ctx context.Context, key keyRef) error {
	switch {
	case key == (keyRef{}): // back to the service's own
		keys, err := c.rewrapped(ctx, key)
		if err == nil {
			c.leave(key)
			c.keys, c.previous = keys, nil
			c.use(key, time.Time{})
		}
		return err
	case c.kind.inSteps:
		// A disk encryption set can be created before its identity may use the key,
		// because the identity only exists then. Its first disk shows a problem.
		c.begin(key, c.expires)
		return nil
	}
	return c.adopt(ctx, key)
}

// showIdentities writes the managed identities into a document.
func (c *consumer) showIdentities(ctx context.Context, d document) error {
	kind := strings.ToLower(d.text("identity", "type"))
	if strings.Contains(kind, "systemassigned") {
		t, err := c.service.signIn(ctx, identity{resourceID: c.resourceID()}, "https://management.azure.com")
		if err != nil {
			return err
		}
		d.set(t.ClientID, "identity", "principalId")
		d.set(c.service.cfg.TenantID, "identity", "tenantId")
	}
	for user := range d.sub("identity", "userAssignedIdentities") {
		t, err := c.service.signIn(ctx, identity{resourceID: user}, "https://management.azure.com")
		if err != nil {
			return err
		}
		c.service.users.add(userIdentity{user, t.ClientID, d.text("location")})
		d.set(t.ClientID, "identity", "userAssignedIdentities", user, "principalId")
		d.set(t.ClientID, "identity", "userAssignedIdentities", user, "clientId")
	}
	return nil
}

// resource returns the document as Resource Manager shows it.
func (c *consumer) resource(state string) document {
	d := c.doc.clone()
	d["id"], d["name"], d["type"] = c.id, c.name[strings.LastIndex(c.name, "/")+1:], c.kind.path
	for _, name := range c.kind.inside {
		delete(d, name)
	}
	if c.kind.etagged {
		d["etag"] = c.etag()
	}
	d.set(state, "properties", "provisioningState")
	c.kind.shows(c, d)
	return d
}

// etag changes with each configuration.
func (c *consumer) etag() string { return fmt.Sprintf("%q", strconv.Itoa(c.revision)) }
