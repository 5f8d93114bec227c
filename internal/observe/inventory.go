package observe

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// inventory is the HSM's inventory, read once for all keys.
type inventory struct {
	reading chan struct{} // has a place during a reading: keys that come meanwhile share it
	mu      sync.Mutex
	at      time.Time               // when the reading began; zero: never
	objects map[string][]key.Object // by name of the key, in lower case
	err     error
}

func newInventory() inventory { return inventory{reading: make(chan struct{}, 1)} }

// hsm is one key's part of the inventory, read at most an age ago.
func (o *Observer) hsm(ctx context.Context, name string, age time.Duration) record.HSMSeen {
	if seen, ok := o.inventory.part(o.now(), name, age); ok {
		return seen
	}
	asked := o.now()
	select {
	case o.inventory.reading <- struct{}{}:
		defer func() { <-o.inventory.reading }()
	case <-ctx.Done(): // an HSM may be slow for longer than a step may take
		return record.HSMSeen{Begun: asked, Err: ctx.Err()}
	}
	if seen, ok := o.inventory.since(asked, o.now(), name); ok {
		return seen
	}
	begun := o.now()
	all, err := o.HSM.Inventory(ctx)
	if err != nil && ctx.Err() != nil {
		return record.HSMSeen{Begun: begun, Err: err} // it says nothing of the HSM
	}
	o.inventory.put(begun, o.Instance, all, err)
	seen, _ := o.inventory.since(begun, begun, name)
	return seen
}

// part returns a key's part if the inventory is younger than age. A failed reading counts for downTime at most.
func (i *inventory) part(now time.Time, name string, age time.Duration) (record.HSMSeen, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.err != nil {
		age = min(age, downTime)
	}
	if i.at.IsZero() || i.at.After(now) || now.Sub(i.at) >= age {
		return record.HSMSeen{}, false
	}
	return i.of(name), true
}

// since returns a key's part, and whether the reading began between t and now. One from the future was made before
// somebody set the clock back.
func (i *inventory) since(t, now time.Time, name string) (record.HSMSeen, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.of(name), !i.at.IsZero() && !i.at.Before(t) && !i.at.After(now)
}

// of is called with the lock held.
func (i *inventory) of(name string) record.HSMSeen {
	return record.HSMSeen{Err: i.err, Begun: i.at, Objects: i.objects[strings.ToLower(name)]}
}

func (i *inventory) put(begun time.Time, instance string, all []key.Object, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.at, i.err, i.objects = begun, err, map[string][]key.Object{}
	for _, x := range all {
		if x.Label.Instance == instance {
			name := strings.ToLower(x.Label.Key)
			i.objects[name] = append(i.objects[name], x)
		}
	}
}

// forgetFailure makes the next key read the inventory again if the last reading failed.
func (i *inventory) forgetFailure() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.err != nil {
		i.at = time.Time{}
	}
}

// replace puts what keyd found under an id in place of what the inventory shows there.
func (i *inventory) replace(name string, id key.ID, found []key.Object) {
	i.mu.Lock()
	defer i.mu.Unlock()
	name = strings.ToLower(name)
	if i.objects != nil {
		i.objects[name] = replaced(i.objects[name], id, found)
	}
}

// under looks for what the HSM has under one id.
func (o *Observer) under(ctx context.Context, seen record.HSMSeen, id key.ID, rec *record.Record) record.HSMSeen {
	begun := o.now()
	found, err := o.HSM.Find(ctx, id)
	if err != nil {
		return record.HSMSeen{Err: err, Begun: begun}
	}
	found = slices.DeleteFunc(slices.Clone(found), func(x key.Object) bool {
		return x.Label.Instance != o.Instance || !key.SameName(x.Label.Key, rec.Key)
	})
	o.inventory.replace(rec.Key, id, found)
	seen.Objects = replaced(seen.Objects, id, found)
	seen.Asked = seen.Asked.With(id, record.Mark{At: begun, Revision: rec.Revision})
	return seen
}

// replaced is a list of objects with what was found under an id. The list itself is not changed.
func replaced(objects []key.Object, id key.ID, found []key.Object) []key.Object {
	rest := make([]key.Object, 0, len(objects)+len(found))
	for _, x := range objects {
		if x.ID != id {
			rest = append(rest, x)
		}
	}
	return append(rest, found...)
}
