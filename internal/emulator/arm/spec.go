package arm

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Spec describes a consumer to create without a call to Resource Manager. Its key need
// not exist yet.
type Spec struct {
	kind *kind
	name string
	key  keyRef
}

// ParseSpec parses KIND=NAME,key=ID: KIND is the word of a kind, and ID a key identifier. The name of a child has its
// parent's before it, as in scope=ACCOUNT/SCOPE. Without a version in ID, the service follows the newest version if it
// can, and else stays with the one that is newest now.
func ParseSpec(s string) (Spec, error) {
	head, id, ok := strings.Cut(s, ",key=")
	word, name, named := strings.Cut(head, "=")
	w := Spec{kind: kindOfWord(word), name: name}
	if !ok || !named || w.kind == nil || !w.isNamed() {
		return Spec{},
			fmt.Errorf("consumer %q: write %s=NAME,key=https://VAULT/keys/NAME[/VERSION]", s, Words("|"))
	}
	var err error
	if w.key, err = parseKeyRef(id); err != nil {
		return Spec{}, fmt.Errorf("consumer %q: %w", s, err)
	}
	return w, nil
}

// isNamed reports whether the name is one, with a parent's before it if the kind has one.
func (w Spec) isNamed() bool {
	parent, child, ofParent := strings.Cut(w.name, "/")
	if w.kind.parent != nil {
		return ofParent && keyName.MatchString(parent) && keyName.MatchString(child)
	}
	return keyName.MatchString(w.name)
}

// String returns the form that ParseSpec parses.
func (w Spec) String() string { return w.kind.word + "=" + w.name + ",key=" + w.key.String() }

// VaultHost returns the DNS name of the key's vault.
func (w Spec) VaultHost() string { return strings.TrimPrefix(w.key.vault, "https://") }

const specScope = "/subscriptions/" + Subscription + "/resourceGroups/emulator"

// specID is the resource id of a consumer that a spec makes.
func specID(k *kind, name string) string {
	return place{scope: specScope, names: strings.Split(name, "/")}.id(k.path)
}

// Make creates the consumer with a managed identity, and its parent if that is missing. An error says why the consumer
// does not use its key yet; Poll tries again.
func (s *Service) Make(ctx context.Context, w Spec) error {
	if w.kind.parent != nil {
		name, _, _ := strings.Cut(w.name, "/")
		p, made := s.ensure(w.kind.parent, specID(w.kind.parent, name), name)
		if made {
			p.mu.Lock()
			p.doc = p.specDocument()
			p.mu.Unlock()
		}
	}
	c, made := s.ensure(w.kind, specID(w.kind, w.name), w.name)
	if !made {
		return fmt.Errorf("consumer %s already exists", c.id)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.doc = c.specDocument()
	c.pending = &w
	return c.apply(ctx)
}

// specDocument is the document of a consumer without a key.
func (c *consumer) specDocument() document {
	d := document{"location": "westeurope", "identity": document{"type": "SystemAssigned"}}
	if c.kind.ownIdentity {
		d["identity"] = document{"type": "UserAssigned",
			"userAssignedIdentities": document{c.specIdentity(): document{}}}
	}
	return d
}

// specIdentity is the resource that has the consumer's managed identity.
func (c *consumer) specIdentity() string {
	switch {
	case c.kind.ownIdentity:
		return specScope + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/" +
			strings.ReplaceAll(c.name, "/", "-")
	case c.kind.parent != nil:
		return c.id[:len(specScope+"/providers/"+c.kind.parent.path+"/")+strings.Index(c.name, "/")]
	}
	return c.id
}

// retryAfter is the pause before a spec that failed is applied again.
const retryAfter = time.Second

// apply tries to configure what the pending spec asks for.
func (c *consumer) apply(ctx context.Context) error {
	c.nextTry = c.service.cfg.Now().Add(retryAfter)
	c.trouble = c.applyPending(ctx)
	if c.trouble == nil {
		c.pending = nil
	}
	return c.trouble
}

func (c *consumer) applyPending(ctx context.Context) error {
	key := c.pending.key
	t, err := c.service.signIn(ctx, identity{resourceID: c.specIdentity()}, key.audience())
	if err != nil {
		return err
	}
	c.identity = identity{resourceID: c.specIdentity(), clientID: t.ClientID}
	c.location = c.locationIn(c.doc)
	if c.kind.needsVersion && key.version == "" { // as a person would do
		info, err := c.examine(ctx, key)
		if err != nil {
			return err
		}
		key = key.at(info.version)
	}
	patch := c.kind.keyPatch(c, key, c.pending.key.version == "")
	next := c.doc.clone()
	next.merge(patch)
	return c.configure(ctx, next, patch)
}
