package arm

import (
	"context"
)

// geoBackup holds the data keys once more, for the backups in another region: wrapped with a key of their own.
type geoBackup struct {
	key    keyRef // as configured; zero: there is none
	who    identity
	active keyRef // the version in use
	keys   []dataKey
}

// geoFor returns the geo-redundant backup that a document asks for, after reading its key.
func (c *consumer) geoFor(ctx context.Context, d document) (geoBackup, error) {
	if c.kind.wantsGeo == nil {
		return geoBackup{}, nil
	}
	w, err := c.kind.wantsGeo(c, d)
	if err != nil || w.key == (keyRef{}) {
		return geoBackup{}, err
	}
	info, err := c.service.look(ctx, w.who, w.key)
	if err != nil {
		return geoBackup{}, err
	}
	if region(info.region) == region(c.location) {
		return geoBackup{}, badKey("The key of geo-redundant backups, %s, must be in another region than the server, "+
			"which is in %s.", w.key, c.location)
	}
	if err := c.kind.accepts(w.key, info, info.region); err != nil {
		return geoBackup{}, err
	}
	return geoBackup{key: w.key, who: w.who, active: w.key.at(info.version), keys: c.geo.keys}, nil
}

// copyForGeo wraps the data keys once more, except those that are.
func (c *consumer) copyForGeo(ctx context.Context) error {
	if c.geo.active == (keyRef{}) {
		return nil
	}
	next := make([]dataKey, len(c.keys))
	for i, k := range c.keys {
		if i < len(c.geo.keys) && c.geo.keys[i].sum == k.sum && c.geo.keys[i].under == c.geo.active {
			next[i] = c.geo.keys[i]
			continue
		}
		plain, err := c.open(ctx, k)
		if err != nil {
			return err
		}
		if next[i], err = c.service.wrap(ctx, c.geo.who, c.geo.active, plain); err != nil {
			return err
		}
	}
	c.geo.keys = next
	return nil
}

// followGeo moves the geo-redundant backup to the newest version of its key.
func (c *consumer) followGeo(ctx context.Context) error {
	if c.geo.active == (keyRef{}) || c.geo.key.version != "" {
		return nil
	}
	newest, err := c.service.look(ctx, c.geo.who, c.geo.key)
	if err != nil {
		return err
	}
	c.geo.active = c.geo.key.at(newest.version)
	return c.copyForGeo(ctx)
}
