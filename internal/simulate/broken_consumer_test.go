package simulate

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/observe"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/service"
)

const lostToReader = `^lost: .+ still needs version \w+ of \S+ in \S+, which keyd disables$`

var brokenConsumers = []breakage{
	{
		name:   "keyd ignores consumers",
		first:  6,
		caught: lostToReader,
		breaks: seeing(func(w *World, p key.Policy, u *record.Usage) {
			eachConsumer(u, func(c *record.ConsumerSeen) { w.vacate(p, c) })
		}),
		world: inhabitedWorld(2),
	},
	{
		name:   "keyd takes what it cannot see for unused",
		first:  19,
		caught: lostToReader,
		breaks: seeing(func(w *World, p key.Policy, u *record.Usage) {
			eachConsumer(u, func(c *record.ConsumerSeen) {
				if c.Err != nil {
					w.vacate(p, c)
				}
			})
		}),
		world: murky(peopledWorld("microsoft.storage/storageaccounts", sleeping)),
	},
	{
		name:   "keyd takes a search that did not see everything for a whole one",
		caught: lostToReader,
		breaks: seeing(func(_ *World, _ key.Policy, u *record.Usage) { u.Unseen = nil }),
		world: murky(peopledWorld("microsoft.storage/storageaccounts", func(i int, k *managed, r *resource) {
			k.home.Consumers, k.home.Discover = nil, true
			sleeping(i, k, r)
		})),
		first: 82,
	},
	{
		name:   "keyd disables a version as soon as a consumer has moved",
		first:  11,
		caught: lostToReader,
		breaks: seeing(func(w *World, _ key.Policy, u *record.Usage) {
			eachConsumer(u, func(c *record.ConsumerSeen) {
				if c.Left = nil; !c.Since.IsZero() {
					c.Since = w.begun
				}
			})
		}),
		world: inhabitedWorld(2),
	},
	{
		name:   "keyd ignores the versions that a consumer says it needs",
		caught: `^lost: disk encryption set \S+ still needs version`,
		breaks: seeing(func(_ *World, _ key.Policy, u *record.Usage) {
			eachConsumer(u, func(c *record.ConsumerSeen) { c.Needs = nil })
		}),
		world: peopledWorld(disks, func(_ int, _ *managed, r *resource) { r.lag = 30 * time.Hour }),
	},
	{
		name:   "keyd ignores backups",
		first:  5,
		caught: `^lost: (SQL|MySQL|PostgreSQL|Cosmos)`,
		breaks: seeing(func(w *World, p key.Policy, u *record.Usage) {
			eachConsumer(u, func(c *record.ConsumerSeen) {
				if s, _ := service.Of(c.ID); s.Backups && c.Err == nil && w.onNewest(p, c) {
					c.Key, c.Configured, c.Left = "another", false, nil // then nothing of it counts
				}
			})
		}),
		world: inhabitedWorld(2),
	},
	{
		name:   "keyd trusts a stale look",
		first:  15,
		caught: lostToReader,
		breaks: func(w *World, c Parts) Parts {
			c.Consumers = &staleLooks{Consumers: c.Consumers, w: w, at: map[string]time.Time{}}
			return c
		},
		world: peopledWorld("microsoft.sql/servers", func(_ int, k *managed, r *resource) { // restored from backups
			k.home.Retire.Backups = 30 * time.Hour
			r.keeps, r.every, r.fragile = 30*time.Hour, 12*time.Hour, true
		}),
	},
	{
		name:   "keyd takes a log with a gap for a quiet one",
		first:  2,
		caught: lostToReader,
		breaks: seeing(func(w *World, _ key.Policy, u *record.Usage) {
			for url, log := range u.Logs {
				log.From, log.Until = w.begun.Add(-1000*time.Hour), u.At
				u.Logs[url] = log
			}
		}),
		world: func(w *World) {
			inhabitedWorld(0)(w)
			for _, v := range w.vaults {
				w.later(30*time.Hour, func() { v.log.lose(60 * time.Hour) })
			}
		},
	},
	{
		name:   "keyd takes the use by a shared identity for a proof of each consumer",
		first:  6,
		caught: `^lost: Event Hubs namespace r`,
		breaks: seeing(func(_ *World, _ key.Policy, u *record.Usage) {
			eachConsumer(u, func(c *record.ConsumerSeen) {
				for i, caller := range c.Callers {
					own := caller + " of " + c.ID
					for _, log := range u.Logs {
						shareUse(log.Uses, caller, own)
						shareUse(log.Worked, caller, own)
					}
					c.Callers[i] = own
				}
			})
		}),
		world: peopledWorld("microsoft.eventhub/namespaces", func(i int, k *managed, r *resource) {
			k.home.Retire.UnusedFor, k.home.Workspaces = 6*time.Hour, map[string]string{}
			for _, v := range k.home.Vaults {
				k.home.Workspaces[v.URL] = "workspace"
			}
			r.caller = "shared-by-" + r.key
			sleeping(i, k, r)
			r.silent = i == 0
		}),
	},
	{
		name:   "keyd never takes a version for unused",
		first:  11,
		caught: `^version \w+ of \S+ in \S+ \(generation \d+\) is enabled \S+ after it was to be disabled$`,
		breaks: seeing(func(_ *World, _ key.Policy, u *record.Usage) { u.Unseen = []string{"everything"} }),
		world:  inhabitedWorld(2),
	},
}

// peopledWorld gives every key two resources of one type that the configuration names. change changes each of them.
func peopledWorld(of string, change func(i int, k *managed, r *resource)) func(*World) {
	return func(w *World) {
		if w.inhabited {
			return // a later start changes nothing
		}
		inhabitedWorld(3)(w)
		w.resources = nil
		for _, k := range w.keys {
			k.home.Consumers = nil
			for i := range 2 {
				r := w.newResource(k, 3)
				r.id = fmt.Sprintf("/subscriptions/s/resourceGroups/g/providers/%s/r%d", of, len(w.resources)+1)
				r.service, _ = service.Of(r.id)
				r.lag, r.every, r.keeps, r.vault = 0, time.Hour, 0, w.vaults[0]
				r.silent, r.versionless, r.pinned = false, false, false
				k.home.Consumers = append(k.home.Consumers, key.Consumer{ID: r.id})
				change(i, k, r)
				w.resources = append(w.resources, r)
			}
			k.policy = k.home
		}
	}
}

// murky is a world in which looks often miss something.
func murky(world func(*World)) func(*World) {
	return func(w *World) {
		world(w)
		w.murky = true
	}
}

// sleeping: the first of two resources stays on its first version.
func sleeping(i int, _ *managed, r *resource) {
	if i == 0 {
		r.every = 0
	}
}

// inhabitedWorld gives every key resources, in one of the ways in which keyd can know of them.
func inhabitedWorld(way int) func(*World) {
	return func(w *World) {
		if w.inhabited {
			return // a later start changes nothing
		}
		w.inhabited = true
		for _, k := range w.keys {
			k.home.Retire = key.RetireRule{DisableAfter: 2 * time.Hour}
			k.home.Consumers, k.home.Workspaces, k.home.Discover = nil, nil, false
		}
		w.resources = nil
		for _, k := range w.keys {
			w.inhabit(k, way)
			k.policy = k.home
		}
	}
}

// vacate makes a consumer look as if it had long been on the newest version.
func (w *World) vacate(p key.Policy, c *record.ConsumerSeen) {
	for _, r := range w.resources {
		if x := r.vault.newest(p.Key); r.id == c.ID && x != nil {
			*c = record.ConsumerSeen{ID: c.ID, Configured: c.Configured, Service: c.Service, Vault: r.vault.URL,
				Key: p.Key, Uses: x.ID, Since: w.begun}
		}
	}
}

func (w *World) onNewest(p key.Policy, c *record.ConsumerSeen) bool {
	x := w.vault(c.Vault).newest(p.Key)
	return x != nil && x.ID == c.Uses
}

func eachConsumer(u *record.Usage, change func(*record.ConsumerSeen)) {
	for i := range u.Consumers {
		change(&u.Consumers[i])
	}
}

func shareUse[T any](uses map[string]map[string]T, caller, own string) {
	for _, callers := range uses {
		if use, used := callers[caller]; used {
			callers[own] = use
		}
	}
}

// seeing changes what a look at those who use a key sees.
func seeing(change func(*World, key.Policy, *record.Usage)) breaks {
	return func(w *World, c Parts) Parts {
		c.Consumers = &blurredLooks{c.Consumers, w, change, map[string]record.Usage{}}
		return c
	}
}

type blurredLooks struct {
	observe.Consumers
	w      *World
	change func(*World, key.Policy, *record.Usage)
	last   map[string]record.Usage // by key
}

func (b *blurredLooks) Look(ctx context.Context, p key.Policy) record.Usage {
	u := b.Consumers.Look(ctx, p)
	b.change(b.w, p, &u)
	b.last[p.Key] = u
	return u
}

func (b *blurredLooks) Last(name string) record.Usage { return b.last[name] }

// staleLooks looks every other day, and calls that now.
type staleLooks struct {
	observe.Consumers
	w  *World
	at map[string]time.Time // by key
}

func (s *staleLooks) Look(ctx context.Context, p key.Policy) record.Usage {
	last := s.Last(p.Key)
	if last.At.IsZero() || last.Err != nil || s.w.now.Sub(s.at[p.Key]) > 48*time.Hour {
		s.at[p.Key] = s.w.now
		return s.Consumers.Look(ctx, p)
	}
	last.Logs = maps.Clone(last.Logs)
	for url, log := range last.Logs {
		log.Until = s.w.now
		last.Logs[url] = log
	}
	last.At = s.w.acting.clock()
	return last
}
