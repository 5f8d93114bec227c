package record

import (
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Observation is what the HSM and the vaults showed for one key.
type Observation struct {
	At time.Time // when it began
	// Revision is that of the record when it was made: an older look would show as missing what a newer record has.
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
	// EmptySince is when this daemon first found nothing of the key, neither versions nor that it is deleted, and
	// has not found anything since; by the vault's clock, as far as that is known.
	EmptySince time.Time
	Versions   []key.Version // complete
	Newest     string        // version id; "" when there is none
	// Material is that of the newest version and of every one that the record does not know.
	Material map[string]key.Material
	// KEK is the key exchange key that imports are wrapped for: that of the vault's record, by its version.
	KEK KEKSeen
	// Newer is the newest version of the key exchange key when that is one which the vault's record does not know.
	Newer KEKSeen
	// Operations are those of the versions that were got so far: of the newest at each look, of others of the record
	// in turn, of one that it does not know once.
	Operations map[string][]key.Operation
	// NativeRotation: the vault itself is to rotate the key, as last asked.
	NativeRotation bool
	PolicyErr      error         // why that is not known; nil when it is
	Skew           time.Duration // the vault's clock minus ours
	SkewSeen       bool
}

// KEKSeen is what was seen of one key exchange key.
type KEKSeen struct {
	Absent bool // the vault does not show it
	KEK    key.KEK
	Print  key.Fingerprint
	Was    key.Fingerprint // what the vault's record says of it; "" when it is not the active one
	Trust  string          // why it is trusted
	Err    error           // why it cannot be used
}

// Clock is a moment by the vault's clock; zero when that is not known.
func (v VaultSeen) Clock(t time.Time) time.Time {
	if !v.SkewSeen {
		return time.Time{}
	}
	return t.Add(v.Skew)
}

// There is a moment by the vault's clock, or by the local one when the vault's is not known.
func (v VaultSeen) There(t time.Time) time.Time {
	if at := v.Clock(t); !at.IsZero() {
		return at
	}
	return t
}

// Recent reports whether a version was made so short a while before the look, or after it, that the answers may lack
// it. The vault's clock counts where it is known, for the local one may have been wrong when the import was recorded.
func (v VaultSeen) Recent(vault key.Vault, p Placement) bool {
	settle := vault.Kind.SettleTime()
	if at := v.Clock(v.Begun); !at.IsZero() && !p.Created.IsZero() {
		return at.Before(p.Created.Add(settle))
	}
	return v.Begun.Before(p.ImportedAt.Add(settle))
}

// Settled reports whether the look began after an attempt's deadline and settle time, by the local clock and, where it
// is known, by the vault's: either may jump.
func (v VaultSeen) Settled(vault key.Vault, p Placement) bool {
	open := p.Deadline.Add(vault.Kind.SettleTime()).Sub(p.At)
	if v.Begun.Before(p.At.Add(open)) {
		return false
	}
	there := v.Clock(v.Begun)
	return p.VaultAt.IsZero() || there.IsZero() || !there.Before(p.VaultAt.Add(open))
}

// Version is the listed version with this id.
func (v VaultSeen) Version(id string) (key.Version, bool) {
	for _, x := range v.Versions {
		if x.ID == id {
			return x, true
		}
	}
	return key.Version{}, false
}

// Latest is the version that the listing shows as created last; zero for none.
func (v VaultSeen) Latest() (latest key.Version) {
	for _, x := range v.Versions {
		if latest.ID == "" || x.Created.After(latest.Created) {
			latest = x
		}
	}
	return latest
}

// Enabled lists the versions that the vault shows enabled.
func (v VaultSeen) Enabled() (ids []string) {
	for _, x := range v.Versions {
		if x.Enabled {
			ids = append(ids, x.ID)
		}
	}
	return ids
}

// Count is how many of the versions the vault shows enabled, and how many disabled.
func (v VaultSeen) Count(versions []string) (enabled, disabled int) {
	for _, id := range versions {
		switch x, listed := v.Version(id); {
		case listed && x.Enabled:
			enabled++
		case listed:
			disabled++
		}
	}
	return enabled, disabled
}

// Missing is a placement that the record has in the vault, for long enough to be shown, and that the listing lacks.
func (v VaultSeen) Missing(r *Record, vault key.Vault) Placed {
	for _, at := range v.MissingAll(r, vault) {
		return at
	}
	return Placed{}
}

// MissingAll is every placement of which Missing tells the first.
func (v VaultSeen) MissingAll(r *Record, vault key.Vault) (list []Placed) {
	for _, at := range r.Imported(vault.URL) {
		if _, listed := v.Version(at.Version); !listed && !v.Recent(vault, *at.Placement) {
			list = append(list, at)
		}
	}
	return list
}

// Late is every placement that the record has in the vault and that the listing lacks, perhaps because it is so young.
func (v VaultSeen) Late(r *Record, vault key.Vault) (list []Placed) {
	for _, at := range r.Imported(vault.URL) {
		if _, listed := v.Version(at.Version); !listed && v.Recent(vault, *at.Placement) {
			list = append(list, at)
		}
	}
	return list
}

// AnyRecent reports whether a placement in the vault is so young that the answers may be stale.
func (v VaultSeen) AnyRecent(r *Record, vault key.Vault) bool {
	for at := range r.in(vault.URL) {
		if v.Recent(vault, *at.Placement) {
			return true
		}
	}
	return false
}
