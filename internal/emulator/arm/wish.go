package arm

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Wish asks for a consumer without a call to Resource Manager. Its key need not be
// there yet.
type Wish struct {
	kind *kind
	name string
	key  keyRef
}

// ParseWish reads KIND=NAME,key=ID: KIND is storage, cosmos, disk or ai, and ID a key
// identifier. Without a version in it, storage and cosmos are versionless, a disk
// encryption set rotates to new versions, and AI services get the newest for good.
func ParseWish(s string) (Wish, error) {
	head, id, ok := strings.Cut(s, ",key=")
	word, name, named := strings.Cut(head, "=")
	w := Wish{kind: kindOfWord(word), name: name}
	if !ok || !named || w.kind == nil || !keyName.MatchString(name) {
		return Wish{},
			fmt.Errorf("consumer %q: write storage|cosmos|disk|ai=NAME,key=https://VAULT/keys/NAME[/VERSION]", s)
	}
	var err error
	if w.key, err = parseKeyRef(id); err != nil {
		return Wish{}, fmt.Errorf("consumer %q: %w", s, err)
	}
	return w, nil
}

// String is what ParseWish read.
func (w Wish) String() string { return w.kind.word + "=" + w.name + ",key=" + w.key.String() }

// VaultHost is the DNS name of the key's vault.
func (w Wish) VaultHost() string { return strings.TrimPrefix(w.key.vault, "https://") }

const wishScope = "/subscriptions/" + subscription + "/resourceGroups/emulator/providers/"

// Make makes the consumer, with a system-assigned identity. An error says why it does
// not hold its key yet; Poll tries again.
func (s *Service) Make(ctx context.Context, w Wish) error {
	c, made := s.ensure(w.kind, wishScope+w.kind.path+"/"+w.name, w.name)
	if !made {
		return fmt.Errorf("there is a consumer %s already", c.id)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.doc = document{"location": "westeurope", "identity": document{"type": "SystemAssigned"}}
	c.pending = &w
	return c.fulfil(ctx)
}

// tryAgain is how long a wish that could not be fulfilled is left alone.
const tryAgain = time.Second

// fulfil tries what was wished for.
func (c *consumer) fulfil(ctx context.Context) error {
	c.nextTry = c.service.cfg.Now().Add(tryAgain)
	c.trouble = c.tryWish(ctx)
	if c.trouble == nil {
		c.pending = nil
	}
	return c.trouble
}

func (c *consumer) tryWish(ctx context.Context) error {
	key := c.pending.key
	t, err := c.service.signIn(ctx, identity{resourceID: c.id}, key.audience())
	if err != nil {
		return err
	}
	c.identity = identity{resourceID: c.id, clientID: t.ClientID}
	if c.kind.needsVersion && key.version == "" { // as a person would look it up
		info, err := c.examine(ctx, key)
		if err != nil {
			return err
		}
		key = key.at(info.version)
	}
	patch := c.kind.wishes(key, c.pending.key.version == "")
	next := c.doc.clone()
	next.merge(patch)
	return c.configure(ctx, next, patch)
}
