package rotate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Observation is what the HSM and the vaults showed for one key.
type Observation struct {
	At time.Time // when it began
	// Revision is that of the record when it was made: an older look would show
	// as missing what a newer record has.
	Revision uint64
	HSM      HSMSeen
	Vaults   map[string]VaultSeen // by URL
}

// HSMSeen is the HSM's part of an observation.
type HSMSeen struct {
	Err     error
	Objects []key.Object // of this key only
}

// VaultSeen is one vault's part of an observation. With Err set the rest is void.
type VaultSeen struct {
	Err error
	// Unconfigured: the configuration has no such vault, which Err says, too.
	Unconfigured bool

	Begun   time.Time
	Deleted bool // the key is soft-deleted
	// EmptySince is when this daemon first found nothing of the key, neither versions
	// nor that it is deleted, and has not found anything since; by the vault's clock,
	// as far as that is known.
	EmptySince time.Time
	Versions   []key.Version // complete
	Newest     string        // version id; "" when there is none
	// Material is the fingerprint of the newest version and of every one that the
	// record does not know; "" where the vault would not show it.
	Material map[string]key.Fingerprint
	KEK      KEKSeen
	// Operations are those of the versions that were got so far: of the newest at
	// each look, of others of the record in turn, of one that it does not know once.
	Operations map[string][]key.Operation
	// NativeRotation: the vault itself is to rotate the key, as last asked.
	NativeRotation bool
	PolicyErr      error         // why that is not known; nil when it is
	Skew           time.Duration // the vault's clock minus ours
	SkewSeen       bool
}

// KEKSeen is the state of a vault's key exchange key.
type KEKSeen struct {
	Absent bool
	Begun  time.Time // when keyd last began to make it, as key.Record.KEKBegun; zero: never
	KEK    key.KEK
	Print  key.Fingerprint
	Trust  string // why it is trusted
	Err    error  // why it cannot be used
}

const (
	// maxUnknown bounds how many unknown versions one look fetches.
	maxUnknown = 300
	// lookTimeout bounds one look at one vault.
	lookTimeout = 45 * time.Second
	// downTime is the least time for which a vault that did not answer is not
	// asked again, so that many keys do not each wait for it. One that took
	// longer to fail is left alone for twice as long as it took.
	downTime = 10 * time.Second
)

// clock is a moment by the vault's clock; zero when that is not known.
func (v VaultSeen) clock(t time.Time) time.Time {
	if !v.SkewSeen {
		return time.Time{}
	}
	return t.Add(v.Skew)
}

// there is a moment by the vault's clock, or by the local one when the vault's is not
// known.
func (v VaultSeen) there(t time.Time) time.Time {
	if at := v.clock(t); !at.IsZero() {
		return at
	}
	return t
}

// recent reports whether a version was made so short a while before the look, or after it,
// that the answers may lack it: by the vault's clock, where it is known, for the local
// one may have been wrong when the import was recorded.
func (v VaultSeen) recent(vault key.Vault, p key.Placement) bool {
	settle := vault.Kind.SettleTime()
	if at := v.clock(v.Begun); !at.IsZero() && !p.Created.IsZero() {
		return at.Before(p.Created.Add(settle))
	}
	return v.Begun.Before(p.ImportedAt.Add(settle))
}

func (v VaultSeen) version(id string) (key.Version, bool) {
	for _, x := range v.Versions {
		if x.ID == id {
			return x, true
		}
	}
	return key.Version{}, false
}

// observe looks at the HSM and at each of the policy's vaults, and remembers what it
// saw. Troubles are part of that, so it has no error of its own.
func (r *Rotator) observe(ctx context.Context, p key.Policy, rec key.Record) *Observation {
	o := r.seeAll(ctx, p, rec)
	if errors.Is(ctx.Err(), context.Canceled) {
		return o // cut short, by a person or because keyd stops: it says nothing of the vaults
	}
	r.views.put(p.Key, o)
	if r.Metrics != nil {
		r.Metrics.observed(p, rec, o)
	}
	return o
}

// Survey looks as the loop does, for a person: nothing is decided by it, and what is
// otherwise asked for in turn is asked for now.
func (r *Rotator) Survey(ctx context.Context, p key.Policy, rec key.Record) *Observation {
	for _, v := range p.Vaults {
		r.views.forgetPolicy(v.URL, p.Key)
	}
	return r.seeAll(ctx, p, rec)
}

func (r *Rotator) seeAll(ctx context.Context, p key.Policy, rec key.Record) *Observation {
	o := &Observation{At: r.now(), Revision: rec.Revision, Vaults: make(map[string]VaultSeen, len(p.Vaults))}
	o.HSM = r.observeHSM(ctx, p.Key)
	for _, v := range p.Vaults {
		client := r.Vaults(v.URL)
		if client == nil {
			o.Vaults[v.URL] = VaultSeen{Unconfigured: true, Err: fmt.Errorf("vault %s is not in the configuration", v.Name)}
			continue
		}
		o.Vaults[v.URL] = r.observeVault(ctx, client, v.URL, p.Key, rec)
	}
	return o
}

func (r *Rotator) observeHSM(ctx context.Context, name string) HSMSeen {
	all, err := r.HSM.Inventory(ctx)
	if err != nil {
		return HSMSeen{Err: err}
	}
	var seen HSMSeen
	for _, o := range all {
		if o.Label.Instance == r.Instance && key.SameName(o.Label.Key, name) {
			seen.Objects = append(seen.Objects, o)
		}
	}
	return seen
}

func (r *Rotator) observeVault(ctx context.Context, c Vault, url, name string, rec key.Record) VaultSeen {
	seen := VaultSeen{Begun: r.now(), Material: map[string]key.Fingerprint{}, Operations: map[string][]key.Operation{}}
	if err := r.views.downNow(url, seen.Begun); err != nil {
		return VaultSeen{Begun: seen.Begun, Err: err}
	}
	asked := ctx
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	fail := func(err error) VaultSeen {
		if errors.Is(asked.Err(), context.Canceled) {
			return VaultSeen{Begun: seen.Begun, Err: err} // whoever asked has gone; others may ask at once
		}
		if key.ClassOf(err) == key.Retry || errors.Is(err, context.DeadlineExceeded) {
			took := min(r.now().Sub(seen.Begun), lookTimeout) // the clock may have been turned
			r.views.putDown(url, err, r.now().Add(max(downTime, 2*took)))
		}
		return VaultSeen{Begun: seen.Begun, Err: err}
	}
	var err error
	if seen.Versions, err = c.Versions(ctx, name); err != nil {
		return fail(err)
	}
	if len(seen.Versions) == 0 {
		if seen.Deleted, err = c.Deleted(ctx, name); err != nil {
			return fail(err)
		}
	} else if err := seen.lookAtNewest(ctx, c, url, &rec); err != nil {
		return fail(err)
	}
	if err := r.lookAtUnknown(ctx, c, url, name, rec, &seen); err != nil {
		return fail(err)
	}
	seen.KEK = r.lookAtKEK(ctx, c, lastPlacement(&rec, url))
	seen.KEK.Begun = later(rec.KEKBegun[url], r.views.kekBegun(url))
	seen.Skew, seen.SkewSeen = c.ClockSkew()
	seen.EmptySince = r.views.emptySince(url, name, len(seen.Versions) == 0 && !seen.Deleted, seen.there(seen.Begun))
	r.lookAtMore(ctx, c, url, name, rec, &seen)
	return seen
}

// lookAtNewest asks for the versionless key, and refuses a view in which listing
// and newest contradict each other: one of them is stale.
func (v *VaultSeen) lookAtNewest(ctx context.Context, c Vault, url string, rec *key.Record) error {
	name := rec.Key
	newest, err := c.Newest(ctx, name)
	if latest := v.latest(); key.ClassOf(err) == key.Refused && !latest.Enabled {
		newest, err = latest, nil // a vault may refuse to show a disabled version
	}
	if err != nil {
		return err
	}
	if newest.Kty != "" && newest.Public == nil && isPlaced(rec, url, newest.ID) {
		// Else it would pass for one of which the vault does not show the material.
		return fmt.Errorf("the newest version %s of %s is keyd's, and the vault shows it as a key of the type %.20q: keyd does not believe that, and looks again", newest.ID, name, newest.Kty)
	}
	if _, listed := v.version(newest.ID); !listed {
		return fmt.Errorf("the newest version %s of %s is not in the listing yet: the vault's answers are stale, keyd looks again", newest.ID, name)
	}
	for _, x := range v.Versions {
		if x.Created.After(newest.Created) && !placedBefore(rec, url, x, newest) {
			return fmt.Errorf("version %s of %s is listed as newer than the newest, %s: the vault's answers are stale, keyd looks again", x.ID, name, newest.ID)
		}
	}
	v.Newest = newest.ID
	if newest.Public != nil {
		if v.Material[newest.ID], err = key.FingerprintOf(newest.Public); err != nil {
			return err
		}
	}
	if len(newest.Operations) > 0 {
		v.Operations[newest.ID] = newest.Operations
	}
	return nil
}

// isPlaced reports whether a vault's version is that of a placement, whose key is of RSA.
func isPlaced(rec *key.Record, url, version string) bool {
	return slices.ContainsFunc(rec.Generations, func(g key.Generation) bool { return sameMaterial(&g, url, version) })
}

// placedBefore reports whether the newest version is what keyd placed last in the
// vault, and x what it placed there earlier. Then the vault's clock was put back
// between the two, and the newest is the newest all the same.
func placedBefore(rec *key.Record, url string, x, newest key.Version) bool {
	last := lastPlacement(rec, url)
	if last.p == nil || newest.ID != last.p.Version && newest.Tags[key.TagAttempt] != string(last.p.Attempt) {
		return false
	}
	for _, g := range rec.Generations {
		for _, p := range g.Placements {
			if p.Vault == url && p.Version == x.ID && p.Seq < last.p.Seq {
				return true
			}
		}
	}
	return false
}

// latest is the version that the listing shows as created last.
func (v *VaultSeen) latest() (latest key.Version) {
	for _, x := range v.Versions {
		if latest.ID == "" || x.Created.After(latest.Created) {
			latest = x
		}
	}
	return latest
}

// lookAtUnknown fetches the material and the operations of the versions that the
// record does not know, newest first.
func (r *Rotator) lookAtUnknown(ctx context.Context, c Vault, url, name string, rec key.Record, seen *VaultSeen) error {
	known := knownVersions(rec, url)
	var unknown []key.Version
	for _, v := range seen.Versions {
		if !known[v.ID] {
			unknown = append(unknown, v)
		}
	}
	sort.SliceStable(unknown, func(i, j int) bool { return unknown[i].Created.After(unknown[j].Created) })
	for i, v := range unknown {
		if i == maxUnknown {
			break
		}
		s, err := r.show(ctx, c, url, name, v)
		if err != nil {
			return err
		}
		seen.Material[v.ID] = s.print
		if len(s.operations) > 0 && v.ID != seen.Newest {
			seen.Operations[v.ID] = s.operations
		}
	}
	return nil
}

// show has the vault show a version that the record does not know. Once it did, it
// is not asked again.
func (r *Rotator) show(ctx context.Context, c Vault, url, name string, v key.Version) (shown, error) {
	if s, ok := r.views.shownOf(url, v.ID); ok {
		return s, nil
	}
	full, err := c.Get(ctx, name, v.ID)
	if err != nil {
		if key.ClassOf(err) == key.Refused {
			return shown{}, nil
		}
		return shown{}, err
	}
	if full.Public == nil {
		return shown{}, nil
	}
	print, err := key.FingerprintOf(full.Public)
	if err != nil {
		return shown{}, err
	}
	s := shown{print, full.Operations}
	r.views.putShown(url, v.ID, s)
	return s, nil
}

// lookAtKEK asks the HSM side whether it trusts the vault's KEK. It may have lost
// its memory of the one first used: the record has it, too.
func (r *Rotator) lookAtKEK(ctx context.Context, c Vault, last placed) KEKSeen {
	kek, present, err := c.KEK(ctx)
	if err != nil {
		return KEKSeen{Err: err}
	}
	if !present {
		return KEKSeen{Absent: true}
	}
	seen := KEKSeen{KEK: kek}
	if seen.Print, err = key.FingerprintOf(kek.Public); err != nil {
		return KEKSeen{KEK: kek, Err: err}
	}
	seen.Trust, seen.Err = r.HSM.CheckKEK(ctx, kek)
	if seen.Err == nil && seen.Trust != TrustConfigured && last.p != nil && last.p.KEKPrint != "" && last.p.KEKPrint != seen.Print {
		seen.Err = refuse("the key exchange key is %s and was %s at the last import: find out who replaced it; to approve it write kek.fingerprint into the configuration, then keyd reload", seen.Print, last.p.KEKPrint)
	}
	return seen
}

// knownVersions is every version id that the record accounts for in a vault. One that was
// given up as gone is not: it may come back.
func knownVersions(rec key.Record, url string) map[string]bool {
	known := map[string]bool{}
	for _, g := range rec.Generations {
		for _, p := range g.Placements {
			if p.Vault != url || p.Version == "" || p.State == key.Void {
				continue
			}
			known[p.Version] = true
			for _, a := range p.Aliases {
				known[a] = true
			}
		}
	}
	for _, v := range rec.Known[url] {
		known[v] = true
	}
	return known
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// LastLook returns the newest observation of a key, nil before the first. It is
// not to be changed.
func (r *Rotator) LastLook(name string) *Observation { return r.views.get(name) }
