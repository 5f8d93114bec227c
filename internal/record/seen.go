package record

import (
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Observation is what the HSM and the vaults showed for one key. Each part has a time of its own: keyd keeps what an
// earlier look saw while nothing speaks against it.
type Observation struct {
	At     time.Time // when the last slow look began
	HSM    HSMSeen
	Vaults map[string]VaultSeen // by URL
	// Usage is as of the last look at the consumers.
	Usage Usage
}

// HSMSeen is the HSM's part of an observation.
type HSMSeen struct {
	Err     error
	Begun   time.Time    // when the inventory was read
	Objects []key.Object // of this key only
	// Asked has the ids that keyd looked for one by one, and under which it did nothing since.
	Asked Few[key.ID, Mark]
}

// Mark is when keyd saw a part of an observation.
type Mark struct {
	At time.Time
	// Revision is the revision of the key's record then: an older look would show as missing what a newer record has.
	Revision uint64
}

// VaultSeen is one vault's part of an observation. If Err is set, nothing else counts.
type VaultSeen struct {
	Err error
	// Unconfigured: the configuration has no such vault; Err says so, too.
	Unconfigured bool

	Begun time.Time // when the listing began
	// Unlisted: there was no listing. keyd never began an import there, and the vault's list of keys lacks the key.
	// That is enough to make a pair. Whatever else follows needs the listing.
	Unlisted bool
	Revision uint64 // of the key's record then, or after what keyd did since
	// Acted: keyd has imported a version since. It is among Versions, and the newest as far as keyd knows.
	Acted bool
	// NewestAt is when keyd last asked for the newest version, or whether the key is deleted; zero if it has imported
	// one since.
	NewestAt time.Time
	// WholeAt is when keyd last asked for all that the vault shows of the key; zero: not since it has versions.
	WholeAt time.Time
	ClockAt time.Time // when the vault's clock was last read, by the local clock
	Deleted bool      // the key is soft-deleted
	// EmptySince is when this daemon first found nothing of the key, neither versions nor that it is deleted, and
	// has not found anything since; by the vault's clock, as far as that is known.
	EmptySince time.Time
	Versions   []key.Version // complete
	Newest     string        // version id; "" when there is none
	// Material is the material of the newest version and of every version that the record does not have.
	Material Few[string, key.Material]
	// KEK is the KEK that imports are wrapped for: the one in the vault's record, by its version.
	KEK KEKSeen
	// Newer is the newest version of the KEK if the vault's record does not have it.
	Newer KEKSeen
	// Operations are those of the versions that keyd asked for so far: the newest at each look, others in the record
	// in turn, and one that the record does not have once.
	Operations Few[string, []key.Operation]
	// NativeRotation: the vault itself is set to rotate the key, according to the last answer.
	NativeRotation bool
	PolicyErr      error         // why NativeRotation is unknown; nil when it is known
	Skew           time.Duration // the vault's clock minus ours
	SkewSeen       bool
	// Proof is of the newest version, where a step needed one since the last whole look.
	Proof ProofSeen
}

// ProofSeen is a proof that was made to look at a version, not to record a result.
type ProofSeen struct {
	At      time.Time // when it began; zero: there was none
	Version string
	Err     error // why it did not pass
}

// AsOf returns when keyd last asked the vault. It is later than Begun if a sweep of the vault's keys has confirmed what
// the listing showed.
func (v VaultSeen) AsOf() time.Time {
	if v.ClockAt.After(v.Begun) {
		return v.ClockAt
	}
	return v.Begun
}

// KEKSeen is what was seen of one key exchange key.
type KEKSeen struct {
	At     time.Time // of the look at the vault's key exchange keys
	Absent bool      // the vault does not show it
	KEK    key.KEK
	Print  key.Fingerprint
	Was    key.Fingerprint // as the vault's record has it; "" if this is not the active KEK
	Trust  string          // why it is trusted
	Err    error           // why it cannot be used
}

// Learnt is the result of a step, so that keyd need not look at what it did itself.
type Learnt struct {
	Key      string
	From, To uint64 // the record's revision before the step and after it
	// ID is the id under which the HSM has something else now; "" for none.
	ID key.ID
	// Vault is the URL of the vault that took Version; "" for none.
	Vault   string
	Version key.Version
}

// Clock is a moment by the vault's clock; zero when that is not known.
func (v VaultSeen) Clock(t time.Time) time.Time {
	if !v.SkewSeen {
		return time.Time{}
	}
	return t.Add(v.Skew)
}

// There is a moment by the vault's clock, or by the local one if the vault's is not known.
func (v VaultSeen) There(t time.Time) time.Time {
	if at := v.Clock(t); !at.IsZero() {
		return at
	}
	return t
}

// Recent reports whether a version was made so shortly before the look, or after it, that the answers may lack it.
// The vault's clock counts if it is known, because the local one may have been wrong when the import was recorded.
func (v VaultSeen) Recent(vault key.Vault, p Placement) bool {
	settle := vault.Kind.SettleTime()
	if at := v.Clock(v.Begun); !at.IsZero() && !p.Created.IsZero() {
		return at.Before(p.Created.Add(settle))
	}
	return v.Begun.Before(p.ImportedAt.Add(settle))
}

// SettleTimeOver reports whether the look began after an attempt's deadline and settle time, by the local clock and by
// the vault's: either may jump, and another host may have made the attempt.
func (v VaultSeen) SettleTimeOver(vault key.Vault, p Placement) bool {
	open := p.Deadline.Add(vault.Kind.SettleTime()).Sub(p.At)
	return Moment{p.At, p.VaultAt}.Over(Moment{v.Begun, v.Clock(v.Begun)}, open)
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

// Missing is a placement whose version the listing lacks, although it was imported long enough ago to show.
func (v VaultSeen) Missing(r *Record, vault key.Vault) Placed {
	for _, at := range v.MissingAll(r, vault) {
		return at
	}
	return Placed{}
}

// MissingAll lists every placement that is missing in the sense of Missing.
func (v VaultSeen) MissingAll(r *Record, vault key.Vault) (list []Placed) {
	for _, at := range r.Imported(vault.URL) {
		if _, listed := v.Version(at.Version); !listed && !v.Recent(vault, *at.Placement) {
			list = append(list, at)
		}
	}
	return list
}

// Late lists every placement whose version the listing lacks, perhaps only because it is so young.
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
