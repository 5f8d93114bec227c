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

// ParseSpec parses KIND=NAME,key=ID: KIND is storage, cosmos, disk or ai, and ID a key
// identifier. Without a version in ID, storage and cosmos follow the newest version, a
// disk encryption set rotates to it, and AI services stay with the one that is newest now.
func ParseSpec(s string) (Spec, error) {
	head, id, ok := strings.Cut(s, ",key=")
	word, name, named := strings.Cut(head, "=")
	w := Spec{kind: kindOfWord(word), name: name}
	if !ok || !named || w.kind == nil || !keyName.MatchString(name) {
		return Spec{},
			fmt.Errorf("consumer %q: write storage|cosmos|disk|ai=NAME,key=https://VAULT/keys/NAME[/VERSION]", s)
	}
	var err error
	if w.key, err = parseKeyRef(id); err != nil {
		return Spec{}, fmt.Errorf("consumer %q: %w", s, err)
	}
	return w, nil
}

// String returns the form that ParseSpec parses.
func (w Spec) String() string { return w.kind.word + "=" + w.name + ",key=" + w.key.String() }

// VaultHost returns the DNS name of the key's vault.
func (w Spec) VaultHost() string { return strings.TrimPrefix(w.key.vault, "https://") }

const specScope = "/subscriptions/" + subscription + "/resourceGroups/emulator/providers/"

// Make creates the consumer, with a system-assigned identity. An error says why the
// consumer does not use its key yet; Poll tries again.
func (s *Service) Make(ctx context.Context, w Spec) error {
	c, made := s.ensure(w.kind, specScope+w.kind.path+"/"+w.name, w.name)
	if !made {
		return fmt.Errorf("consumer %s already exists", c.id)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.doc = document{"location": "westeurope", "identity": document{"type": "SystemAssigned"}}
	c.pending = &w
	return c.apply(ctx)
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
	t, err := c.service.signIn(ctx, identity{resourceID: c.id}, key.audience())
	if err != nil {
		return err
	}
	c.identity = identity{resourceID: c.id, clientID: t.ClientID}
	if c.kind.needsVersion && key.version == "" { // as a person would do
		info, err := c.examine(ctx, key)
		if err != nil {
			return err
		}
		key = key.at(info.version)
	}
	patch := c.kind.keyPatch(key, c.pending.key.version == "")
	next := c.doc.clone()
	next.merge(patch)
	return c.configure(ctx, next, patch)
}
