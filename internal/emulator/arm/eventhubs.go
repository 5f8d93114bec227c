package arm

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxSlots is how many keys a namespace can have.
const maxSlots = 3

// eventHubs is Microsoft.EventHub/namespaces: it has up to three keys, and shows no version in use. Microsoft does not
// say what each key is for. Here each is a slot with data of its own: NAME, NAME#2 and NAME#3, so a namespace needs all
// of its keys.
var eventHubs, otherSlots = newEventHubs()

func newEventHubs() (first *kind, others []*kind) {
	for i := range maxSlots {
		k := *namespaceSlot
		k.wants = func(c *consumer, d document) (want, error) { return wantsSlot(c, d, i) }
		others = append(others, &k)
	}
	first = others[0]
	first.slots = others
	return first, others[1:]
}

var namespaceSlot = &kind{
	word: "eventhubs", path: "Microsoft.EventHub/namespaces",
	delay: 5 * time.Minute, bits: []int{2048, 3072, 4096},
	puts: byState, patches: byState, keysOnly: true,
	whole: [][]string{{"properties", "encryption"}},
	shows: func(c *consumer, d document) {
		d.set("https://"+c.name+".servicebus.windows.net:443/", "properties", "serviceBusEndpoint")
		d.set(timestamp(c.made), "properties", "createdAt")
		d.set("Active", "properties", "status")
	},
	keyPatch: func(_ *consumer, k keyRef, _ bool) document {
		return document{"properties": document{"encryption": document{"keySource": "Microsoft.KeyVault",
			"keyVaultProperties": []any{
				map[string]any{"keyVaultUri": k.vault, "keyName": k.name, "keyVersion": k.version},
			}}}}
	},
}

// slotsIn are the keys that a document names.
func slotsIn(d document) []document {
	e := d.sub("properties", "encryption")
	if !strings.EqualFold(e.text("keySource"), "Microsoft.KeyVault") {
		return nil
	}
	return e.list("keyVaultProperties")
}

func wantsSlot(c *consumer, d document, i int) (want, error) {
	slots := slotsIn(d)
	switch {
	case d.sub("properties", "encryption") != nil && len(slots) == 0 && i == 0 && c.key != (keyRef{}):
		return want{}, badKey("properties.encryption needs keySource Microsoft.KeyVault and keyVaultProperties.")
	case len(slots) > maxSlots:
		return want{}, badKey("A namespace takes at most %d keys, not %d.", maxSlots, len(slots))
	case i >= len(slots):
		return want{}, nil
	}
	p := slots[i]
	key, err := newKeyRef(p.text("keyVaultUri"), p.text("keyName"), p.text("keyVersion"))
	if err != nil {
		return want{}, err
	}
	w := want{key: key, follows: key.version == ""}
	w.who, err = chosenIdentity(c, d, p.text("identity", "userAssignedIdentity"))
	return w, err
}

// configureSlots configures the namespace and the slots after the first. It reads each key before it changes anything.
func (c *consumer) configureSlots(ctx context.Context, next, asked document) error {
	count := len(slotsIn(next))
	for i := range min(count, maxSlots) {
		w, err := wantsSlot(c, next, i)
		if err != nil {
			return err
		}
		info, err := c.service.look(ctx, w.who, w.key)
		if err != nil {
			return err
		}
		if err := c.kind.accepts(w.key, info, next.text("location")); err != nil {
			return err
		}
	}
	if err := c.configure(ctx, next, asked); err != nil {
		return err
	}
	for i, k := range otherSlots {
		id := fmt.Sprintf("%s#%d", c.id, i+2)
		switch slot := c.service.find(id); {
		case i+1 < count:
			slot, _ = c.service.ensure(k, id, fmt.Sprintf("%s#%d", c.name, i+2))
			if err := slot.configureAlone(ctx, next, asked); err != nil {
				return err
			}
		case slot != nil:
			if err := c.absorb(ctx, slot); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *consumer) configureAlone(ctx context.Context, next, asked document) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.configure(ctx, next, asked)
}

// absorb moves the data of a slot whose key was taken away to the namespace's first key.
func (c *consumer) absorb(ctx context.Context, slot *consumer) error {
	slot.mu.Lock()
	defer slot.mu.Unlock()
	keys := slices.Clone(c.keys)
	for _, k := range slot.keys {
		plain, err := slot.open(ctx, k)
		if err != nil {
			return err
		}
		moved, err := c.wrap(ctx, c.active, plain)
		if err != nil {
			return err
		}
		keys = append(keys, moved)
	}
	for _, it := range slot.items {
		it.key += len(c.keys)
		c.items = append(c.items, it)
	}
	c.keys, c.backups = keys, append(c.backups, slot.backups...)
	c.service.remove(slot)
	return nil
}
