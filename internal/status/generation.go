package status

import (
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Generation is one generation of a key, as people and programs see it.
type Generation struct {
	Number      int             `json:"number"`
	ID          key.ID          `json:"id"` // CKA_ID
	Spec        key.Spec        `json:"spec"`
	State       key.State       `json:"state"`
	Reason      string          `json:"reason"`
	Requester   string          `json:"requester"` // "schedule", or "uid N (name)"
	Requests    []key.ID        `json:"requests"`
	Without     []string        `json:"without"` // vault URLs that the operator left out
	Fingerprint key.Fingerprint `json:"fingerprint,omitempty"`
	Reserved    time.Time       `json:"reserved"`
	// SpareSince is when it was reserved as a spare; zero: it never was one.
	SpareSince time.Time `json:"spare_since,omitzero"`
	// GenerateBegun is when keyd last called the HSM for a pair of it.
	GenerateBegun time.Time   `json:"generate_begun,omitzero"`
	Pinned        time.Time   `json:"pinned,omitzero"`
	Finished      time.Time   `json:"finished,omitzero"`
	Deactivated   time.Time   `json:"deactivated,omitzero"`
	Compromised   time.Time   `json:"compromised,omitzero"`
	Discarded     time.Time   `json:"discarded,omitzero"`
	LostInHSM     time.Time   `json:"lost_in_hsm,omitzero"`
	Placements    []Placement `json:"placements"` // oldest first
}

// Placement is one generation in one vault.
type Placement struct {
	Vault      string             `json:"vault"` // URL
	VaultName  string             `json:"vault_name"`
	Attempt    key.ID             `json:"attempt"`
	Cause      key.Cause          `json:"cause"`
	State      key.PlacementState `json:"state"`
	At         time.Time          `json:"at"` // when the import was recorded
	Version    string             `json:"version,omitempty"`
	Created    time.Time          `json:"created,omitzero"` // by the vault's clock
	ImportedAt time.Time          `json:"imported_at,omitzero"`
	ProvenAt   time.Time          `json:"proven_at,omitzero"`
	DisabledAt time.Time          `json:"disabled_at,omitzero"`
	// Disables is the version that keyd is disabling now.
	Disables string    `json:"disables,omitempty"`
	Expires  time.Time `json:"expires,omitzero"`
	// Acknowledged is when an operator answered for its compromised versions that are still enabled.
	Acknowledged time.Time `json:"acknowledged,omitzero"`
	Aliases      []string  `json:"aliases"`
	// DisabledVersions are those that keyd disabled while others of the placement are enabled.
	DisabledVersions []string        `json:"disabled_versions"`
	KEK              string          `json:"kek,omitempty"` // kid with version
	KEKPrint         key.Fingerprint `json:"kek_fingerprint,omitempty"`
	Detail           string          `json:"detail,omitempty"`
}

// Exposed is a version of compromised material that is enabled, and that no operator has acknowledged.
type Exposed struct {
	Vault      string `json:"vault"` // URL
	Version    string `json:"version"`
	Generation int    `json:"generation"`
}

// Latest is the generation with the highest number that was not discarded; nil for none.
func (k Key) Latest() *Generation {
	for i := len(k.Generations) - 1; i >= 0; i-- {
		if k.Generations[i].Discarded.IsZero() {
			return &k.Generations[i]
		}
	}
	return nil
}

// ActiveIn counts the key's vaults in which a generation is the active one.
func (k Key) ActiveIn(g *Generation) (n int) {
	for _, url := range k.Vaults {
		if slices.ContainsFunc(
			g.Placements,
			func(p Placement) bool { return p.Vault == url && p.State == key.Proven },
		) {
			n++
		}
	}
	return n
}

// AnyPlaced reports whether keyd ever intended to place one of the key's generations in a vault.
func (k Key) AnyPlaced() bool {
	return slices.ContainsFunc(k.Generations, func(g Generation) bool { return len(g.Placements) > 0 })
}
