package observe

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/proof"
	"github.com/keyd-project/keyd/internal/record"
)

// HSM is what a look needs from the HSM side. Its errors carry a key.Class.
type HSM interface {
	proof.HSM
	// Inventory lists every pair of this instance, whole or not.
	Inventory(ctx context.Context) ([]key.Object, error)
	// Find lists what is under one id, as Inventory would.
	Find(ctx context.Context, id key.ID) ([]key.Object, error)
	// CheckKEK says why the KEK is trusted, or refuses it; it changes nothing.
	CheckKEK(ctx context.Context, kek key.KEK) (how string, err error)
}

// Vault is what a look needs from one vault. Its errors carry a key.Class.
type Vault interface {
	proof.Vault
	// KEK returns one version of the KEK, "" for the newest; present is false if there is none.
	KEK(ctx context.Context, version string) (kek key.KEK, present bool, err error)
	// KEKVersions lists every version of the KEK: all of them, or an error. A vault without a KEK has none.
	KEKVersions(ctx context.Context) ([]key.Version, error)
	// Versions is a complete listing. It is empty if the vault does not have the key.
	Versions(ctx context.Context, name string) ([]key.Version, error)
	// Newest is the version that a caller who names no version gets.
	Newest(ctx context.Context, name string) (key.Version, error)
	// NativeRotation reports whether the vault itself is set to rotate the key.
	NativeRotation(ctx context.Context, name string) (bool, error)
	// Deleted reports whether the key is soft-deleted.
	Deleted(ctx context.Context, name string) (bool, error)
	// Sweep lists every key of the vault as the vault's list of keys shows it: not their versions. It fails with
	// key.ErrTooManyPages when the list has more than most pages.
	Sweep(ctx context.Context, most int) ([]key.Item, error)
}

// Records has what keyd knows of each vault.
type Records interface {
	// LoadVault returns an empty record of revision 0 for a vault that was never saved.
	LoadVault(ctx context.Context, url string) (record.Vault, error)
}

// Consumers has what was seen of those who use a key. Its looks never fail: what cannot be seen is in them.
type Consumers interface {
	// Look looks at the consumers of a key and at the logs of its vaults now. What it sees becomes the last look.
	Look(ctx context.Context, p key.Policy) record.Usage
	// Last is the last look at those who use a key; zero before the first.
	Last(name string) record.Usage
}

// Config holds the parts of an Observer.
type Config struct {
	Instance string
	HSM      HSM
	Records  Records
	// Vaults finds the vault with this URL; nil if the configuration has none.
	Vaults func(url string) Vault
	// Consumers may be nil: then nobody looks at those who use a key.
	Consumers Consumers
	Clock     func() time.Time
	Metrics   *Metrics // may be nil
	// Slow is how old the HSM's inventory and a vault's list of keys may be for a key with nothing due.
	Slow time.Duration
}

// Observer looks at keys.
type Observer struct {
	Config
	cache     cache
	inventory inventory
	sweeps    sweeps
	turns     turns // looks at a vault itself
}

// New returns an Observer that has seen nothing.
func New(c Config) *Observer {
	if c.Metrics != nil {
		c.Metrics.clock = c.Clock
	}
	return &Observer{Config: c, cache: newCache(), sweeps: newSweeps(), inventory: newInventory()}
}

// now has no monotonic reading: keyd plans by the wall clock, even if somebody set it.
func (o *Observer) now() time.Time { return o.Clock().Round(0) }

const (
	// maxUnknown limits how many unknown versions one look fetches.
	maxUnknown = 300
	// downTime is the least time before keyd again asks a vault that did not answer, so that many keys do not each
	// wait for it. If the vault took longer to fail, keyd leaves it alone for twice as long as it took.
	downTime = 10 * time.Second
)

// Observe brings the observation of a key up to date and keeps it. It asks a vault only where something may have
// changed (see needs). All keys share the HSM's inventory. Failures are part of the observation, so it returns no
// error.
func (o *Observer) Observe(ctx context.Context, p key.Policy, rec record.Record) *record.Observation {
	last, used := o.cache.get(p.Key)
	if used || last == nil {
		last = &record.Observation{} // a step changed what was seen
	}
	seen := &record.Observation{At: o.now(), Vaults: make(map[string]record.VaultSeen, len(p.Vaults)),
		Usage: o.lastUsage(p)}
	seen.HSM = o.hsm(ctx, p.Key, o.Slow)
	for _, v := range p.Vaults {
		part := last.Vaults[v.URL]
		switch o.needs(ctx, p, &rec, last, v.URL) {
		case wholeLook:
			part = o.look(ctx, v.Name, v.URL, p.Key, &rec)
		case listingOnly:
			part = o.list(ctx, v.Name, v.URL, p.Key, &rec, part)
		case nothingNew:
			part = o.confirmed(ctx, v.URL, part)
		case notThere:
			part = o.unlisted(ctx, v.URL, &rec)
		}
		seen.Vaults[v.URL] = part
	}
	return o.keep(ctx, p, rec, seen)
}

// Refresh looks at some parts of a key again and keeps the rest of its observation. Without one it does what Observe
// does.
func (o *Observer) Refresh(ctx context.Context, p key.Policy, rec record.Record,
	parts plan.Parts) *record.Observation {
	last, used := o.cache.get(p.Key)
	if used || last == nil {
		return o.Observe(ctx, p, rec)
	}
	seen := &record.Observation{At: last.At, HSM: last.HSM, Vaults: maps.Clone(last.Vaults), Usage: last.Usage}
	if parts.Usage {
		seen.Usage = o.usage(ctx, p)
	}
	if parts.HSM {
		seen.HSM = o.hsm(ctx, p.Key, downTime)
	}
	for _, id := range parts.IDs {
		seen.HSM = o.under(ctx, seen.HSM, id, &rec)
	}
	o.refreshVaults(ctx, p, &rec, seen, parts)
	return o.keep(ctx, p, rec, seen)
}

func (o *Observer) refreshVaults(ctx context.Context, p key.Policy, rec *record.Record, seen *record.Observation,
	parts plan.Parts) {
	each := func(urls []string, do func(url, name string) record.VaultSeen) {
		for _, url := range urls {
			if v, ok := p.Vault(url); ok {
				seen.Vaults[url] = do(url, v.Name)
			}
		}
	}
	each(parts.Vaults, func(url, name string) record.VaultSeen { return o.look(ctx, name, url, p.Key, rec) })
	each(parts.Listings, func(url, name string) record.VaultSeen {
		return o.list(ctx, name, url, p.Key, rec, seen.Vaults[url])
	})
	each(parts.Newest, func(url, _ string) record.VaultSeen {
		return o.askNewest(ctx, url, p.Key, rec, seen.Vaults[url])
	})
	each(parts.KEKs, func(url, _ string) record.VaultSeen { return o.withKEK(ctx, url, seen.Vaults[url]) })
	each(parts.Clocks, func(url, _ string) record.VaultSeen { return o.withClock(ctx, url, seen.Vaults[url]) })
	each(parts.Proofs, func(url, _ string) record.VaultSeen {
		return o.withProof(ctx, url, p, rec, seen.Vaults[url])
	})
}

// keep stores the newest observation of a key.
func (o *Observer) keep(ctx context.Context, p key.Policy, rec record.Record,
	seen *record.Observation) *record.Observation {
	if errors.Is(ctx.Err(), context.Canceled) {
		return seen // a person or a shutdown cut the look short: it says nothing about the vaults
	}
	o.cache.put(p.Key, seen)
	if o.Metrics != nil {
		o.Metrics.observed(p, rec, seen)
	}
	return seen
}

// Survey observes for a person: it keeps nothing, and asks at once for the facts that Observe asks for in turn.
func (o *Observer) Survey(ctx context.Context, p key.Policy, rec record.Record) *record.Observation {
	for _, v := range p.Vaults {
		o.cache.forgetPolicy(v.URL, p.Key)
	}
	return o.Look(ctx, p, rec)
}

// Look looks at everything again, but keeps nothing.
func (o *Observer) Look(ctx context.Context, p key.Policy, rec record.Record) *record.Observation {
	seen := &record.Observation{At: o.now(), Vaults: make(map[string]record.VaultSeen, len(p.Vaults)),
		Usage: o.lastUsage(p)}
	seen.HSM = o.hsm(ctx, p.Key, 0)
	for _, v := range p.Vaults {
		o.cache.putVault(v.URL, nil)
		seen.Vaults[v.URL] = o.look(ctx, v.Name, v.URL, p.Key, &rec)
	}
	return seen
}

// Inspect is Look, with a proof of the newest version in some vaults.
func (o *Observer) Inspect(ctx context.Context, p key.Policy, rec record.Record, urls []string) *record.Observation {
	seen := o.Look(ctx, p, rec)
	for _, url := range urls {
		if _, ok := p.Vault(url); ok {
			seen.Vaults[url] = o.withProof(ctx, url, p, &rec, seen.Vaults[url])
		}
	}
	return seen
}

// Last returns the newest observation of a key, nil before the first. The caller must not change it.
func (o *Observer) Last(name string) *record.Observation {
	seen, _ := o.cache.get(name)
	return seen
}

// Use notes that keyd planned a step on the newest observation of a key. The step may change what was seen, so keyd
// looks again, unless Learn records what came of it.
func (o *Observer) Use(name string) { o.cache.use(name) }

// Used reports whether keyd planned a step on the newest observation of a key, and Learn has not recorded its result.
func (o *Observer) Used(name string) bool {
	_, used := o.cache.get(name)
	return used
}

// Forget drops what metrics show of a key that keyd no longer manages.
func (o *Observer) Forget(name string) {
	o.Drop(name)
	o.cache.forget(name)
	o.sweeps.forget(name)
	if o.Metrics != nil {
		o.Metrics.Forget(name)
	}
}

// Drop forgets the newest observation of a key.
func (o *Observer) Drop(name string) { o.cache.drop(name) }

// Doubt makes the next step ask again for what the newest observation of a key did not find: it may be there now.
func (o *Observer) Doubt(name string) {
	o.cache.update(name, func(last *record.Observation, used bool) *record.Observation {
		if used {
			return nil // the next step looks again anyway
		}
		return doubted(last)
	})
}

func doubted(last *record.Observation) *record.Observation {
	seen := &record.Observation{At: last.At, HSM: last.HSM, Vaults: maps.Clone(last.Vaults), Usage: last.Usage}
	if seen.HSM.Err != nil {
		seen.HSM.Begun = time.Time{}
	}
	for url, part := range seen.Vaults {
		if part.Err != nil {
			part.Begun = time.Time{}
		}
		if part.KEK.Err != nil {
			part.KEK.At = time.Time{}
		}
		seen.Vaults[url] = part
	}
	return seen
}
