package key

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"time"
)

// nameForm is Key Vault's rule for key names.
var nameForm = regexp.MustCompile(`^[0-9a-zA-Z-]{1,127}$`)

// ValidName reports whether s can name a key in a vault. Key Vault compares
// names without case.
func ValidName(s string) bool { return nameForm.MatchString(s) }

// VaultKind distinguishes the two services.
type VaultKind string

// The kinds of vault.
const (
	KeyVault   VaultKind = "key-vault"
	ManagedHSM VaultKind = "managed-hsm"
)

// SettleTime is how long after an import's deadline a new version may still appear in a listing: 2 minutes for a Key
// Vault, 10 minutes for a Managed HSM, whose regions take up to 6 minutes to replicate.
func (k VaultKind) SettleTime() time.Duration {
	if k == ManagedHSM {
		return 10 * time.Minute
	}
	return 2 * time.Minute
}

// MaxVersions is the number of versions of one key at which keyd stops rotating: 95 for a Managed HSM, which allows
// 100, and 0 (no limit) for a Key Vault.
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

// Schedule is a cron schedule as a pure function: the first firing strictly after t, in the schedule's own zone.
// Package schedule has the schedules that an operator can configure.
type Schedule interface {
	Next(t time.Time) time.Time
}

// RetireRule says when keyd may disable the versions of a deactivated generation. The zero value is the default:
// never.
type RetireRule struct {
	// DisableAfter is how long a generation must have been deactivated in
	// every vault. 0: never.
	DisableAfter time.Duration `json:"disable_after"`
	// Pause is the least time between two disablings of one key, in whatever vaults. 0: a day.
	Pause time.Duration `json:"pause,omitempty"`
	// UnusedFor is how long, before a version is disabled, the log of its vault must show no use of it. It counts where
	// the vault has a workspace.
	UnusedFor time.Duration `json:"unused_for,omitempty"`
	// Backups is how long consumers keep backups that only an old version opens, counted from when the last consumer
	// left the version. 0: nobody said, so keyd disables no version that backups may need.
	Backups time.Duration `json:"backups,omitempty"`
	// NoConsumers is the operator's word that nothing in Azure that keyd could see encrypts under the key.
	NoConsumers bool `json:"no_consumers,omitempty"`
	// Watched is the digest of all that keyd looks at before it disables a version: the consumers by their ids, the
	// workspaces and the subscriptions. It is "" where there is nothing. It is part of the rule so that a consent ends
	// when any of it changes.
	Watched string `json:"watched,omitempty"`
}

// Never reports whether keyd never disables anything under the rule.
func (r RetireRule) Never() bool { return r.DisableAfter <= 0 }

// Between is the least time between two disablings of one key.
func (r RetireRule) Between() time.Duration { return cmp.Or(r.Pause, 24*time.Hour) }

const (
	// ExpiryMargin is how much longer ExpiresAfter must at least be than the longest time between two rotations.
	ExpiryMargin = 30 * 24 * time.Hour
	// ExpiryNotice is how long before the expiry of a newest version keyd warns of it. It is shorter than the margin,
	// so keyd warns only if a rotation is late.
	ExpiryNotice = 21 * 24 * time.Hour
)

// MaxSpares is the most spares of one key: each is a pair in the HSM.
const MaxSpares = 5

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
	Spares       int           // pairs that are made in advance, so that a rotation starts at the import
	Window       time.Duration // a scheduled rotation starts at most this long after its firing; 0: any time
	Spread       time.Duration // a fixed delay in [0, Spread) per key after each firing
	// ExpiresAfter is how long after its import a new generation's version wraps. 0: for ever. It unwraps for ever in
	// any case.
	ExpiresAfter time.Duration
	Labels       []string // groups that an operator names keys by; keyd itself does not go by them
	Consumers    []Consumer
	// Workspaces has, by vault URL, the Log Analytics workspace with the vault's audit log. A vault without one is
	// absent.
	Workspaces map[string]string
	// Discover: keyd also searches subscriptions for consumers that the configuration does not name.
	Discover bool
	// Heir is the key that replaces this one; nil: none does. It is no setting.
	Heir *Heir
	// Retained: the key is no longer in the configuration. keyd does not rotate it or disable its versions, but still
	// proves and lists it.
	Retained bool
}

// AsksUsers reports whether there is anybody to ask who uses the key.
func (p Policy) AsksUsers() bool { return len(p.Consumers)+len(p.Workspaces) > 0 || p.Discover }

// Vault returns the policy's vault with this URL.
func (p Policy) Vault(url string) (Vault, bool) {
	for _, v := range p.Vaults {
		if v.URL == url {
			return v, true
		}
	}
	return Vault{}, false
}

// Heir is the key to which the consumers of a replaced one go.
type Heir struct {
	Key    string
	Vaults []Vault
}

// Has reports whether a name in a vault (URL) is that key.
func (h *Heir) Has(name, url string) bool {
	return h != nil && SameName(h.Key, name) &&
		slices.ContainsFunc(h.Vaults, func(v Vault) bool { return v.URL == url })
}
