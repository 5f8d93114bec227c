package arm

import (
	"context"
	"strings"
	"time"
)

// configure makes next the consumer's document, and uses the key that next names. After
// an error the consumer is unchanged. asked is the request's own content: a request
// that names the key makes the service read it again, changed or not.
func (c *consumer) configure(ctx context.Context, next, asked document) error {
	w, err := c.kind.wants(c.id, next)
	if err != nil {
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
	named, _ := c.kind.wants(c.id, asked) // the request was validated as part of next
	before := c.identity
	c.identity = w.who
	if w.key != c.key || w.who != before || named.key != (keyRef{}) {
		if err := c.change(ctx, w.key); err != nil {
			c.identity = before
			return err
		}
	}
	c.doc, c.key, c.follows = next, w.key, w.follows
	c.trouble, c.rotationError = nil, nil
	return nil
}

// change moves the data to another key.
func (c *consumer) change(ctx context.Context, key keyRef) error {
	switch {
	case key == (keyRef{}): // back to the service's own
		keys, err := c.rewrapped(ctx, key)
		if err == nil {
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
		t, err := c.service.signIn(ctx, identity{resourceID: c.id}, "https://management.azure.com")
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
		d.set(t.ClientID, "identity", "userAssignedIdentities", user, "principalId")
		d.set(t.ClientID, "identity", "userAssignedIdentities", user, "clientId")
	}
	return nil
}

// resource returns the document as Resource Manager shows it.
func (c *consumer) resource(state string) document {
	d := c.doc.clone()
	d["id"], d["name"], d["type"] = c.id, c.name, c.kind.path
	d.set(state, "properties", "provisioningState")
	c.kind.shows(c, d)
	return d
}
