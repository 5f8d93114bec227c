package arm

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// consumer is one resource: its document in Resource Manager, and its data.
type consumer struct {
	service *Service
	kind    *kind
	id      string // resource id
	name    string
	made    time.Time

	mu       sync.Mutex // held during calls to the vault
	doc      document   // as it was put and patched
	pending  *Spec      // applied until it succeeds; nil: none
	nextTry  time.Time  // of pending
	settling bool       // the next reader still sees the last change as unfinished
	ready    bool       // it was configured
	revision int        // counts its configurations
	identity identity
	location string
	key      keyRef // as configured; zero: the service's own key
	follows  bool   // follows new versions by itself

	active   keyRef   // the version in use
	previous []keyRef // of an unfinished rotation
	rotated  time.Time
	expires  time.Time // of the version in use; zero: never
	nextLook time.Time
	trouble  error // of the last look

	rotationError error // of the last attempt to follow the key

	paused bool   // looks for no new version
	claim  string // a version that it says to use; "": the one that it uses

	keys    []dataKey
	items   []item
	backups []backup
	geo     geoBackup
}

// item is one thing written.
type item struct {
	key    int    // index in keys
	where  string // where it was written
	sealed []byte
}

// backup is a copy of the data at one time.
type backup struct {
	taken, until time.Time // a zero until: as long as the consumer lives
	keys         []dataKey
	items        []item
}

// resourceID is the id without the number of a slot.
func (c *consumer) resourceID() string {
	id, _, _ := strings.Cut(c.id, "#")
	return id
}

// write encrypts data with the consumer's data key; a disk gets one of its own.
func (c *consumer) write(ctx context.Context, data []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	plain, err := c.keyToWrite(ctx)
	if err == nil {
		err = c.copyForGeo(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s cannot write: %w", c.name, err)
	}
	return c.put(plain, data)
}

// keyToWrite returns the last data key, unwrapped or new.
func (c *consumer) keyToWrite(ctx context.Context) ([]byte, error) {
	if len(c.keys) > 0 && !c.kind.keyPerItem {
		return c.open(ctx, c.keys[len(c.keys)-1])
	}
	if c.active != (keyRef{}) {
		if _, err := c.examine(ctx, c.active); err != nil {
			return nil, err
		}
	}
	k, plain, err := c.newDataKey(ctx, c.active)
	if err != nil {
		return nil, err
	}
	c.keys = append(c.keys, k)
	return plain, nil
}

func (c *consumer) put(key, data []byte) error {
	// The additional data bind an item to its place.
	where := fmt.Sprintf("%s item %d", strings.ToLower(c.id), len(c.items))
	sealed, err := seal(key, data, where)
	if err != nil {
		return err
	}
	c.items = append(c.items, item{len(c.keys) - 1, where, sealed})
	return nil
}

func (c *consumer) backUp(keep time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.snapshot(keep)
}

// snapshot adds a backup.
func (c *consumer) snapshot(keep time.Duration) {
	now := c.service.cfg.Now()
	c.backups = append(c.backups, backup{now, now.Add(keep), slices.Clone(c.keys), slices.Clone(c.items)})
}

// leave keeps a backup of the data under the version in use, if the service does, before they move to another.
func (c *consumer) leave(next keyRef) {
	if c.kind.keeps == nil || c.active == (keyRef{}) || c.active == next || len(c.items) == 0 {
		return
	}
	if keep := c.kind.keeps(c.doc); keep > 0 {
		c.snapshot(c.service.scaled(keep))
	}
}

// examine reads a key and refuses one that the service does not accept.
func (c *consumer) examine(ctx context.Context, ref keyRef) (keyInfo, error) {
	info, err := c.service.look(ctx, c.identity, ref)
	if err != nil {
		return info, err
	}
	return info, c.kind.accepts(ref, info, c.location)
}

// adopt switches to a version of a key, the newest if ref names none, after the version
// has wrapped successfully.
func (c *consumer) adopt(ctx context.Context, ref keyRef) error {
	info, err := c.examine(ctx, ref)
	if err != nil {
		return err
	}
	target := ref.at(info.version)
	fresh, _, err := c.newDataKey(ctx, target)
	if err != nil {
		return err
	}
	if c.kind.inSteps || (c.kind.moving > 0 && c.active != (keyRef{})) {
		c.begin(target, info.expires)
		return nil
	}
	keys, err := c.rewrapped(ctx, target)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		keys = []dataKey{fresh}
	}
	c.leave(target)
	c.keys = keys
	c.use(target, info.expires)
	return nil
}

func (c *consumer) use(target keyRef, expires time.Time) {
	if target != c.active {
		c.active, c.rotated = target, c.service.cfg.Now()
	}
	c.expires = expires
}

// begin starts a rotation that goes on for a while: new disks use the new version, all
// other data are moved later.
func (c *consumer) begin(target keyRef, expires time.Time) {
	if target != c.active && c.active != (keyRef{}) {
		c.previous = append(c.previous, c.active)
	}
	c.previous = slices.DeleteFunc(c.previous, func(k keyRef) bool { return k == target || !c.holds(k) })
	if len(c.previous) > 0 {
		c.schedule(c.kind.moving)
	}
	c.use(target, expires)
}

// holds reports whether a data key is wrapped under a version.
func (c *consumer) holds(under keyRef) bool {
	return slices.ContainsFunc(c.keys, func(k dataKey) bool { return k.under == under })
}

// finish completes a rotation that was begun.
func (c *consumer) finish(ctx context.Context) error {
	keys, err := c.rewrapped(ctx, c.active)
	if err == nil {
		c.keys, c.previous = keys, nil
	}
	return err
}
