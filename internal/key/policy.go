package key

import (
	"regexp"
	"strings"
	"time"
)

// nameForm is Key Vault's rule for key names.
var nameForm = regexp.MustCompile(`^[0-9a-zA-Z-]{1,127}$`)

// ValidName reports whether s can name a key in a vault. Key Vault compares
// names without case.
func ValidName(s string) bool { return nameForm.MatchString(s) }

// VaultKind tells the two services apart.
type VaultKind string

// The kinds of vault.
const (
	KeyVault   VaultKind = "key-vault"
	ManagedHSM VaultKind = "managed-hsm"
)

// SettleTime is how long after an import's deadline a version may still come to
// light in a listing: 2 minutes for a vault, 10 for a Managed HSM, whose regions
// replicate in up to 6.
func (k VaultKind) SettleTime() time.Duration {
	if k == ManagedHSM {
		return 10 * time.Minute
	}
	return 2 * time.Minute
}

// MaxVersions is the number of versions of one key at which keyd stops
// rotating: 95 of a Managed HSM's hard limit of 100, 0 (none) for a vault.
func (k VaultKind) MaxVersions() int {
	if k == ManagedHSM {
		return 95
	}
	return 0
}

// Vault is one destination. Its identity is its URL; the name is a nickname
// that may change.
type Vault struct {
	Name string    `json:"name"`
	URL  string    `json:"url"` // canonical: https://host, lower case, no slash at the end
	Kind VaultKind `json:"kind"`
}

// AzScope is the option that tells the az CLI which vault is meant: "--vault-name contoso-weu".
func (v Vault) AzScope() string {
	name, _, _ := strings.Cut(strings.TrimPrefix(v.URL, "https://"), ".")
	if v.Kind == ManagedHSM {
		return "--hsm-name " + name
	}
	return "--vault-name " + name
}

// Schedule is a cron schedule as a pure function: the first firing strictly after t,
// in the schedule's own zone. Package schedule has those that can be configured.
type Schedule interface {
	Next(t time.Time) time.Time
}

// RetireRule says when a deactivated generation's versions may be disabled. The
// zero value is the default: never.
type RetireRule struct {
	// DisableAfter is how long a generation must have been deactivated in
	// every vault. 0: never.
	DisableAfter time.Duration
}

// Never reports whether nothing is ever disabled under the rule.
func (r RetireRule) Never() bool { return r.DisableAfter <= 0 }

const (
	// ExpiryMargin is the least time by which ExpiresAfter is longer than the longest
	// time between two rotations.
	ExpiryMargin = 30 * 24 * time.Hour
	// ExpiryNotice is how long before its expiry a newest version is told of. It is
	// shorter than the margin: only a rotation that is late gives cause.
	ExpiryNotice = 21 * 24 * time.Hour
)

// Policy is what the configuration asks of one key.
type Policy struct {
	Key          string
	Spec         Spec
	Vaults       []Vault // in the order in which a rotation visits them
	Schedule     Schedule
	ScheduleText string // as written, for people; "" with a nil Schedule: only on request
	Operations   []Operation
	Retire       RetireRule
	Floor        time.Duration // the shortest time between two scheduled rotations
	Budget       int           // rotations per 24 hours, requests included; a compromise is exempt
	Window       time.Duration // a scheduled rotation starts only this long after its firing; 0: any time
	Spread       time.Duration // a fixed delay in [0, Spread) per key after each firing
	// ExpiresAfter is how long after its import a new generation's version may be
	// wrapped with. 0: for ever. Opening what was wrapped never ends.
	ExpiresAfter time.Duration
	// Retained: the key is no longer in the configuration. It is not rotated
	// and not disabled, but still proved and listed.
	Retained bool
}

// Vault returns the policy's vault with this URL.
func (p Policy) Vault(url string) (Vault, bool) {
	for _, v := range p.Vaults {
		if v.URL == url {
			return v, true
		}
	}
	return Vault{}, false
}
