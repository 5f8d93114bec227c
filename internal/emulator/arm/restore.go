package arm

import (
	"slices"
	"strings"
	"time"
)

// restore gives a new resource the data of another's backup, if its document says so. Their data keys stay wrapped as
// they are in the backup, as long as the resource lives.
func (c *consumer) restore(d document) error {
	if mode := strings.ToLower(d.text("properties", "createMode")); mode != "pointintimerestore" &&
		mode != "georestore" {
		return nil
	}
	from := d.text("properties", "sourceServerResourceId")
	source := c.service.find(from)
	if source == nil || source == c || source.kind != c.kind {
		return badKey("The source server %q was not found.", from)
	}
	at := c.service.cfg.Now()
	if text := d.text("properties", "pointInTimeUTC"); text != "" {
		var err error
		if at, err = time.Parse(time.RFC3339, text); err != nil {
			return badKey("The point in time %q is not a time by RFC 3339.", text)
		}
	}
	source.mu.Lock()
	defer source.mu.Unlock()
	b := backup{taken: at, keys: slices.Clone(source.keys), items: slices.Clone(source.items)}
	for _, old := range source.backups { // each is of what there was until it was taken
		if !old.taken.Before(at) {
			b.keys, b.items = old.keys, old.items
			break
		}
	}
	c.backups = append(c.backups, b)
	return nil
}
