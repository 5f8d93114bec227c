package simulate

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/service"
)

// watchTime is how often a daemon looks at those who use its keys.
const watchTime = time.Hour

// watcher looks at the resources for one daemon, as carefully as can be.
type watcher struct {
	d    *daemon
	last map[string]record.Usage // by key
}

// sighting is what keyd remembers of one resource in its ledger.
type sighting struct {
	born  time.Time // of the resource: one that comes back is another one
	uses  string
	since time.Time
	left  map[string]time.Time
}

// Look looks at the resources that the configuration names, and searches for others if it says so.
func (x *watcher) Look(_ context.Context, p key.Policy) record.Usage {
	w := x.d.w
	seen := record.Usage{At: x.d.clock()}
	if seen.Err = w.call("azure", &w.azure, "Look", atVault, func() error {
		seen.Consumers, seen.Unseen = w.consumersOf(p)
		seen.Logs = map[string]record.LogSeen{}
		for _, v := range w.vaults {
			if p.Workspaces[v.URL] != "" {
				seen.Logs[v.URL] = v.log.seen(p.Key)
			}
		}
		return nil
	}, nil, nil); seen.Err != nil {
		seen = record.Usage{At: seen.At, Err: seen.Err}
	}
	x.last[p.Key] = seen
	return seen
}

// Last is the last look.
func (x *watcher) Last(name string) record.Usage { return x.last[name] }

// watch looks at those who use a key when an hour has passed.
func (d *daemon) watch(p key.Policy) {
	if len(p.Consumers)+len(p.Workspaces) == 0 && !p.Discover || p.Retained {
		return
	}
	if age := d.clock().Sub(d.consumers.Last(p.Key).At); age < 0 || age >= watchTime {
		d.consumers.Look(context.Background(), p)
	}
}

// consumersOf is what a look shows of the resources of a key, and what a search did not see.
func (w *World) consumersOf(p key.Policy) (list []record.ConsumerSeen, unseen []string) {
	for _, r := range w.resources {
		configured, place := named(p, r.id), p.Key+" "+r.id
		replaced := (configured || w.found[place]) && p.Heir.Has(r.key, r.vault.URL)
		if !replaced && (r.key != p.Key || !configured && !p.Discover) {
			continue
		}
		c := record.ConsumerSeen{ID: r.id, Configured: configured}
		switch trouble := !w.calm && (w.seldom(25) || w.murky && w.seldom(2)); {
		case !r.back.IsZero():
			c.Err = failed(key.Refused, "model: 404, no resource %s", service.NameOf(r.id))
		case trouble && !configured && w.seldom(2):
			unseen = append(unseen, "model: a subscription is not shown")
			continue
		case trouble:
			c.Err = failed(key.Retry, "model: ARM does not show %s", service.NameOf(r.id))
		default:
			r.shown(&c)
			w.found[place] = true
		}
		list = append(list, c)
	}
	return list, unseen
}

// shown is what Resource Manager shows of a resource, with what keyd remembers of it.
func (r *resource) shown(c *record.ConsumerSeen) {
	c.Service, c.Vault, c.Key, c.Callers = r.service.Name, r.vault.URL, r.key, []string{r.caller}
	c.Follows, c.Anew = !r.pinned, r.born
	if r.pinned {
		c.Asked = r.uses
	}
	if !r.service.ShowsInUse {
		return
	}
	c.Uses = r.uses
	place := r.id + " " + r.key
	s := r.w.ledger[place]
	if s == nil || !s.born.Equal(r.born) {
		s = &sighting{born: r.born, left: map[string]time.Time{}}
		r.w.ledger[place] = s
	}
	if s.uses != r.uses { // by Azure's clock
		if s.uses != "" {
			s.left[s.uses] = r.w.now
		}
		s.uses, s.since = r.uses, r.w.now
		delete(s.left, r.uses)
	}
	c.Since, c.Left = s.since, maps.Clone(s.left)
	if r.service.Type == disks {
		for _, id := range slices.Sorted(maps.Keys(r.live)) {
			if r.w.now.Before(r.live[id]) {
				c.Needs = append(c.Needs, id)
			}
		}
	}
}
