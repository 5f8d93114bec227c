package observe

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// HSM is what a look needs of the HSM side. Errors carry a key.Class.
type HSM interface {
	// Inventory lists every pair of this instance, whole or not.
	Inventory(ctx context.Context) ([]key.Object, error)
	// CheckKEK says why the KEK is trusted, or refuses it; it changes nothing.
	CheckKEK(ctx context.Context, kek key.KEK) (how string, err error)
}

// Vault is what a look needs of one vault. Errors carry a key.Class.
type Vault interface {
	// KEK returns one version of the key exchange key, "" for the newest; present is false when there is none.
	KEK(ctx context.Context, version string) (kek key.KEK, present bool, err error)
	// KEKVersions is every version of the key exchange key, or an error; none for a vault without one.
	KEKVersions(ctx context.Context) ([]key.Version, error)
	// Versions is a complete listing, empty for a key that is not there.
	Versions(ctx context.Context, name string) ([]key.Version, error)
	// Newest is the version that a caller without a version gets.
	Newest(ctx context.Context, name string) (key.Version, error)
	// Get shows one version with its material and operations.
	Get(ctx context.Context, name, version string) (key.Version, error)
	// NativeRotation reports whether the vault itself is to rotate the key.
	NativeRotation(ctx context.Context, name string) (bool, error)
	// Deleted reports whether the key is soft-deleted.
	Deleted(ctx context.Context, name string) (bool, error)
	// ClockSkew is the vault's clock minus the local one at the last answer.
	ClockSkew() (skew time.Duration, known bool)
}

// Records has what keyd knows of each vault.
type Records interface {
	// LoadVault returns an empty record of revision 0 for a vault never saved.
	LoadVault(ctx context.Context, url string) (record.Vault, error)
}

// Config is what an Observer is made of.
type Config struct {
	Instance string
	HSM      HSM
	Records  Records
	// Vaults finds the vault with this URL; nil when the configuration has none.
	Vaults  func(url string) Vault
	Clock   func() time.Time
	Metrics *Metrics // may be nil
}

// Observer looks at keys.
type Observer struct {
	Config
	cache cache
}

// New returns an Observer that has seen nothing.
func New(c Config) *Observer {
	if c.Metrics != nil {
		c.Metrics.clock = c.Clock
	}
	return &Observer{Config: c, cache: newCache()}
}

// now has no monotonic reading: what is planned goes by the wall clock, also when that was set.
func (o *Observer) now() time.Time { return o.Clock().Round(0) }

const (
	// maxUnknown bounds how many unknown versions one look fetches.
	maxUnknown = 300
	// downTime is the least time for which a vault that did not answer is not asked again, so that many keys do not
	// each wait for it. One that took longer to fail is left alone for twice as long as it took.
	downTime = 10 * time.Second
)

// Observe looks at the HSM and at each of the policy's vaults, and keeps what it saw. Troubles are part of that, so it
// has no error of its own.
func (o *Observer) Observe(ctx context.Context, p key.Policy, rec record.Record) *record.Observation {
	seen := o.Look(ctx, p, rec)
	if errors.Is(ctx.Err(), context.Canceled) {
		return seen // cut short, by a person or because keyd stops: it says nothing of the vaults
	}
	o.cache.put(p.Key, seen)
	if o.Metrics != nil {
		o.Metrics.observed(p, rec, seen)
	}
	return seen
}

// Survey observes for a person: it keeps nothing, and asks at once for what Observe asks for in turn.
func (o *Observer) Survey(ctx context.Context, p key.Policy, rec record.Record) *record.Observation {
	for _, v := range p.Vaults {
		o.cache.forgetPolicy(v.URL, p.Key)
	}
	return o.Look(ctx, p, rec)
}

// Look looks as Observe does, and keeps nothing.
func (o *Observer) Look(ctx context.Context, p key.Policy, rec record.Record) *record.Observation {
	seen := &record.Observation{
		At: o.now(), Revision: rec.Revision, Vaults: make(map[string]record.VaultSeen, len(p.Vaults)),
	}
	seen.HSM = o.hsm(ctx, p.Key)
	for _, v := range p.Vaults {
		c := o.Vaults(v.URL)
		if c == nil {
			err := fmt.Errorf("vault %s is not in the configuration", v.Name)
			seen.Vaults[v.URL] = record.VaultSeen{Unconfigured: true, Err: err}
			continue
		}
		seen.Vaults[v.URL] = o.vault(ctx, c, v.URL, p.Key, &rec)
	}
	return seen
}

// hsm is the key's part of the HSM's inventory.
func (o *Observer) hsm(ctx context.Context, name string) (seen record.HSMSeen) {
	all, err := o.HSM.Inventory(ctx)
	if err != nil {
		return record.HSMSeen{Err: err}
	}
	for _, x := range all {
		if x.Label.Instance == o.Instance && key.SameName(x.Label.Key, name) {
			seen.Objects = append(seen.Objects, x)
		}
	}
	return seen
}

// Last returns the newest observation of a key, nil before the first. It is not to be changed.
func (o *Observer) Last(name string) *record.Observation { return o.cache.get(name) }

// Use notes that a step was planned on the newest observation of a key. The step changes what was seen.
func (o *Observer) Use(name string) { o.cache.use(name) }

// Used reports whether a step was planned on the newest observation of a key.
func (o *Observer) Used(name string) bool { return o.cache.isUsed(name) }

// Forget drops what metrics show of a key that keyd no longer manages.
func (o *Observer) Forget(name string) {
	o.Drop(name)
	if o.Metrics != nil {
		o.Metrics.Forget(name)
	}
}

// Drop forgets the newest observation of a key.
func (o *Observer) Drop(name string) { o.cache.drop(name) }
