package arm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Report says which of its data every consumer can still read.
type Report struct {
	EverythingReadable bool      `json:"everything_readable"`
	Consumers          []Reading `json:"consumers"`
}

// Reading is one consumer's part of a Report.
type Reading struct {
	Name     string     `json:"name"`
	Type     string     `json:"type"` // such as Microsoft.Storage/storageAccounts
	ID       string     `json:"id"`
	Identity string     `json:"identity"` // client id; "" before it signs in
	Key      string     `json:"key"`      // as configured; "": the service's own key
	Follows  bool       `json:"follows"`  // follows new versions by itself
	InUse    string     `json:"in_use"`   // identifier of the version; "": none
	Previous []string   `json:"previous"` // of an unfinished rotation
	NextLook *time.Time `json:"next_look,omitempty"`
	Trouble  string     `json:"trouble"` // with its key, when it last looked
	Read     int        `json:"read"`    // items that were read, in backups too
	Lost     []Loss     `json:"lost"`
}

// Loss is data that cannot be read, and why.
type Loss struct {
	What    string `json:"what"` // such as "items 0, 1" or "item 0 of the backup of 2026-…"
	Version string `json:"version"`
	Why     string `json:"why"`
}

// Err returns what cannot be read; nil if everything can be.
func (r Report) Err() error {
	var errs []error
	for _, c := range r.Consumers {
		for _, l := range c.Lost {
			errs = append(errs, fmt.Errorf("%s cannot read %s, under %s: %s", c.Name, l.What, l.Version, l.Why))
		}
	}
	return errors.Join(errs...)
}

// ReadEverything makes every consumer read all its data, unwrapping each data key
// again.
func (s *Service) ReadEverything(ctx context.Context) Report {
	r := Report{EverythingReadable: true, Consumers: []Reading{}}
	for _, c := range s.all() {
		reading := c.readAll(ctx)
		r.Consumers = append(r.Consumers, reading)
		r.EverythingReadable = r.EverythingReadable && len(reading.Lost) == 0
	}
	return r
}

func (c *consumer) readAll(ctx context.Context) Reading {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.describe()
	c.readReplica(ctx, &r)
	c.read(ctx, &r, c.identity, c.keys, c.items, "")
	c.read(ctx, &r, c.geo.who, c.geo.keys, c.items, " of the geo-redundant backup")
	now := c.service.cfg.Now()
	c.backups = slices.DeleteFunc(c.backups, func(b backup) bool {
		return !b.until.IsZero() && !now.Before(b.until)
	})
	for _, b := range c.backups {
		c.read(ctx, &r, c.identity, b.keys, b.items, " of the backup of "+b.taken.UTC().Format(time.RFC3339))
	}
	return r
}

func (c *consumer) describe() Reading {
	r := Reading{
		Name: c.name, Type: c.kind.path, ID: c.id, Identity: c.identity.clientID, Follows: c.follows,
		Previous: []string{}, Lost: []Loss{},
	}
	if c.key != (keyRef{}) {
		r.Key, r.InUse = c.key.String(), c.active.String()
	}
	for _, k := range c.previous {
		r.Previous = append(r.Previous, k.String())
	}
	if c.looks() {
		next := c.nextLook
		r.NextLook = &next
	}
	if c.trouble != nil {
		r.Trouble = c.trouble.Error()
	}
	return r
}

// read decrypts every item, data key by data key.
func (c *consumer) read(ctx context.Context, r *Reading, who identity, keys []dataKey, items []item, where string) {
	for i, k := range keys {
		var lost []string
		why := ""
		plain, openErr := c.service.open(ctx, who, k)
		for n, it := range items {
			if it.key != i {
				continue
			}
			err := openErr
			if err == nil {
				_, err = unseal(plain, it.sealed, it.where)
			}
			if err == nil {
				r.Read++
				continue
			}
			lost, why = append(lost, strconv.Itoa(n)), err.Error()
		}
		if len(lost) > 0 {
			r.Lost = append(r.Lost, Loss{"item " + strings.Join(lost, ", ") + where, k.under.String(), why})
		}
	}
}
