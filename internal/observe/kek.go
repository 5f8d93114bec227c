package observe

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

// Vault looks at one vault's KEKs, and keeps what it saw for the vault's next step. Failures are part of what it saw,
// so it returns no error.
func (o *Observer) Vault(ctx context.Context, p key.VaultPolicy, rec record.Vault) *record.VaultLook {
	seen := &record.VaultLook{At: o.now(), Revision: rec.Revision, Others: map[string]record.KEKSeen{}}
	c := o.Vaults(p.URL)
	if c == nil {
		seen.Err = fmt.Errorf("vault %s is not in the configuration", p.Name)
	} else {
		seen.Err = o.vaultItself(ctx, c, p.URL, &rec, seen)
	}
	if ctx.Err() == nil {
		o.cache.putVault(p.URL, seen)
	}
	if seen.Err == nil && seen.SkewSeen {
		o.cache.putAnswer(p.URL, o.now())
	}
	return seen
}

// vaultItself looks at a vault's key exchange keys, unless the vault recently did not answer.
func (o *Observer) vaultItself(ctx context.Context, c Vault, url string, rec *record.Vault,
	seen *record.VaultLook) error {
	if err := o.cache.downNow(url, seen.At); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, plan.LookTimeout)
	defer cancel()
	err := o.keks(within, c, rec, seen)
	if err != nil {
		o.failed(ctx, url, seen.At, err)
	}
	return err
}

// LastVault is the newest look at a vault's KEKs; nil for none. The caller must not change it.
func (o *Observer) LastVault(url string) *record.VaultLook { return o.cache.vaultOf(url) }

// DropVault drops that look: a step changed what was seen.
func (o *Observer) DropVault(url string) { o.cache.putVault(url, nil) }

// KeepVault keeps a look at a vault as one that was made with this revision of the vault's record: keyd changed nothing
// else.
func (o *Observer) KeepVault(url string, seen record.VaultLook, revision uint64) {
	seen.Revision = revision
	o.cache.putVault(url, &seen)
}

// keks looks at the newest KEK, and at every other one that a step may be about.
func (o *Observer) keks(ctx context.Context, c Vault, rec *record.Vault, seen *record.VaultLook) (err error) {
	if seen.Versions, err = c.KEKVersions(ctx); err != nil {
		return err
	}
	if seen.Newest = o.kek(ctx, c, ""); unseen(seen.Newest) {
		return seen.Newest.Err
	}
	if newest := seen.Newest.KEK.Version(); newest != "" {
		if _, listed := seen.Version(newest); !listed {
			return fmt.Errorf("the newest key exchange key %s is not in the listing yet: the vault's answers "+
				"are stale, keyd looks again", newest)
		}
	}
	for _, x := range latestFirst(seen.Versions) {
		if _, done := seen.KEK(x.ID); done || !concerns(rec, x, len(seen.Others)) {
			continue
		}
		one := o.kek(ctx, c, x.ID)
		if unseen(one) {
			return one.Err
		}
		seen.Others[x.ID] = one
	}
	seen.Skew, seen.SkewSeen = c.ClockSkew()
	return nil
}

// mostUnknown limits how many versions keyd looks at in search of an approved one.
const mostUnknown = 10

// concerns reports whether a step may be about a version of the KEK. While none is in use, an approved one may be
// older than the newest, because the record was lost.
func concerns(rec *record.Vault, x key.Version, looked int) bool {
	if known := rec.KEK(x.ID); known != nil {
		return known.State == key.KEKActive || known.State == key.KEKMade
	}
	own := rec.Attempt(key.ID(x.Tags[key.TagAttempt]))
	return own != nil || rec.Active() == nil && x.Enabled && looked < mostUnknown
}

func latestFirst(versions []key.Version) []key.Version {
	return slices.SortedStableFunc(slices.Values(versions), func(a, b key.Version) int {
		return b.Created.Compare(a.Created)
	})
}

// unseen reports whether the vault did not answer. That the HSM side does not trust a KEK is not a failure of the
// look.
func unseen(k record.KEKSeen) bool {
	return k.Err != nil && k.Print == "" && key.ClassOf(k.Err) != key.Refused
}

// kek gets one version of the KEK, "" for the newest, and asks the HSM side whether it trusts it.
func (o *Observer) kek(ctx context.Context, c Vault, version string) (seen record.KEKSeen) {
	kek, present, err := c.KEK(ctx, version)
	switch {
	case err != nil:
		return record.KEKSeen{KEK: key.KEK{Kid: kek.Kid}, Err: err}
	case !present:
		return record.KEKSeen{Absent: true}
	}
	seen.KEK, seen.Print = kek, kek.Material.Fingerprint()
	seen.Trust, seen.Err = o.HSM.CheckKEK(ctx, kek)
	return seen
}

// kekEvery is how long the keys of a vault share one look at its key exchange keys. keyd looks again after kekPause at
// a KEK that it cannot use.
const (
	kekEvery = time.Hour
	kekPause = 10 * time.Second
)

// withKEK adds the KEK that keyd wraps for, by its version in the vault's record: a newer version does not displace
// it. All keys share one look at the vault.
func (o *Observer) withKEK(ctx context.Context, url string, part record.VaultSeen) record.VaultSeen {
	rec, err := o.Records.LoadVault(ctx, url)
	if err != nil {
		part.KEK = record.KEKSeen{At: o.now(), Err: fmt.Errorf("read the record of vault %s: %w", url, err)}
		return part
	}
	seen := o.sharedVault(ctx, url, &rec)
	part.KEK, part.Newer = record.KEKSeen{}, record.KEKSeen{}
	switch active := rec.Active(); {
	case seen.Err != nil:
		part.KEK.Err = seen.Err
	case active == nil:
		part.KEK = unused(&rec, seen)
	default:
		part.KEK = inUse(active, seen)
		if newest := seen.Newest; newest.Print != "" && rec.KEK(newest.KEK.Version()) == nil {
			part.Newer = newest
		}
	}
	part.KEK.At = seen.At
	return part
}

// sharedVault returns the last look at a vault's key exchange keys if it still serves, else a new one.
func (o *Observer) sharedVault(ctx context.Context, url string, rec *record.Vault) *record.VaultLook {
	if seen := o.cache.vaultOf(url); seen != nil && o.serves(seen, rec) {
		return seen
	}
	defer o.turns.take(url)()
	if seen := o.cache.vaultOf(url); seen != nil && o.serves(seen, rec) {
		return seen // another key has looked meanwhile
	}
	return o.Vault(ctx, key.VaultPolicy{Vault: key.Vault{URL: url, Name: url}}, *rec)
}

// serves reports whether keys may still use a look at a vault's key exchange keys.
func (o *Observer) serves(seen *record.VaultLook, rec *record.Vault) bool {
	age, most := o.now().Sub(seen.At), kekEvery
	if active := rec.Active(); seen.Err != nil || active == nil {
		most = kekPause
	} else if k, ok := seen.KEK(active.Version()); !ok || k.Err != nil || k.Absent {
		most = kekPause
	}
	return seen.Revision == rec.Revision && age >= 0 && age < most
}

// inUse is what was seen of the KEK in use.
func inUse(active *record.KEK, seen *record.VaultLook) record.KEKSeen {
	kek, ok := seen.KEK(active.Version())
	kek.Was, kek.Absent = active.Fingerprint, kek.Absent || !ok
	switch {
	case kek.Absent:
		kek.Err = &kekError{key.Refused,
			fmt.Sprintf("the vault does not show the key exchange key %s, which keyd uses", active.Kid)}
	case kek.Print != "" && kek.Print != active.Fingerprint:
		kek.Err = &kekError{key.Refused,
			fmt.Sprintf("the key exchange key %s is %s and was %s when keyd took it into use: "+
				"find out who replaced it", active.Kid, kek.Print, active.Fingerprint)}
	}
	return kek
}

// unused says why there is no KEK in use yet.
func unused(rec *record.Vault, look *record.VaultLook) record.KEKSeen {
	seen := look.Newest
	if k := rec.Waiting(); k != nil && seen.KEK.Version() != k.Version() {
		var ok bool
		if seen, ok = look.KEK(k.Version()); !ok {
			seen.Absent = true
		}
	}
	switch {
	case seen.Err != nil:
	case seen.Absent:
		seen = record.KEKSeen{Err: &kekError{key.Retry,
			"it has no key exchange key yet; keyd makes one, unless kek.create is false"}}
	default:
		seen.Err = &kekError{key.Retry, fmt.Sprintf("keyd is about to take the key exchange key %s into use",
			seen.Print)}
	}
	return seen
}

// kekError says why a KEK cannot be used.
type kekError struct {
	class key.Class
	text  string
}

func (e *kekError) Error() string { return e.text }

// Class is key.Refused if a person must act.
func (e *kekError) Class() key.Class { return e.class }

var _ key.Classed = (*kekError)(nil)
