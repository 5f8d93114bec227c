package record

import (
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Placement is one generation in one vault.
type Placement struct {
	// Seq is the order among all placements of the record, from 1. 0 means that adopt found the placement, and it is
	// older than all those.
	Seq       int                `json:"seq"`
	Attempt   key.ID             `json:"attempt"` // random, travels as the tag TagAttempt
	Vault     string             `json:"vault"`   // URL
	VaultName string             `json:"vault_name"`
	Cause     key.Cause          `json:"cause"`
	State     key.PlacementState `json:"state"`
	At        time.Time          `json:"at"`       // when it was recorded
	Deadline  time.Time          `json:"deadline"` // keyd gives up the PUT at this time
	// VaultAt is At by the vault's clock, if that was known. The local clock may jump while the outcome is open.
	VaultAt time.Time `json:"vault_at,omitzero"`

	Version    string    `json:"version,omitempty"` // the vault's id, once known
	Created    time.Time `json:"created,omitzero"`  // by the vault's clock
	ImportedAt time.Time `json:"imported_at,omitzero"`
	ProvenAt   time.Time `json:"proven_at,omitzero"`
	// DisableBegun is when keyd last began to disable a version of it, by the vault's clock if that was known; zero
	// for never, and once that happened.
	DisableBegun time.Time `json:"disable_begun,omitzero"`
	// Disables is the version that keyd is disabling; "" while Disabling: all that are enabled, as keyd once disabled
	// them. While Superseded it is the one whose disabling keyd gave up.
	Disables   string    `json:"disables,omitempty"`
	DisabledAt time.Time `json:"disabled_at,omitzero"`
	// LateAt is when keyd saw that a disabling which it had given up had happened all the same; zero once an operator
	// consented to the retire rule again.
	LateAt time.Time `json:"late_at,omitzero"`
	// Acknowledged is when an operator answered for its versions of compromised material that are still enabled.
	Acknowledged time.Time `json:"acknowledged,omitzero"`
	Aliases      []string  `json:"aliases,omitempty"` // other versions of the same material
	// DisabledVersions are those of its versions that keyd disabled while others of them are enabled. It is empty when
	// all are disabled: the state says that.
	DisabledVersions []string `json:"disabled_versions,omitempty"`
	// Operations are those it was imported with; empty when keyd does not know them.
	Operations []key.Operation `json:"operations,omitempty"`
	// Expires is the expiry date that the import asked for; zero: none.
	Expires  time.Time       `json:"expires,omitzero"`
	KEK      string          `json:"kek,omitempty"` // kid with version
	KEKPrint key.Fingerprint `json:"kek_fingerprint,omitempty"`
	Detail   string          `json:"detail,omitempty"` // why it is void or refuted, for people
}

// Counts reports whether the placement describes the present: it is neither void nor a lifted refutation.
func (p Placement) Counts() bool { return p.State != key.Void && p.State != key.Lifted }

// Good reports whether the placement was proven and the proof still stands.
func (p Placement) Good() bool {
	switch p.State {
	case key.Proven, key.Superseded, key.Disabling, key.Disabled:
		return true
	}
	return false
}

// Older reports whether a later placement took its place, and keyd does not know it to be disabled.
func (p Placement) Older() bool { return p.State == key.Superseded || p.State == key.Disabling }

// InVault reports whether the vault is known to hold, or to have held, a version of the placement.
func (p Placement) InVault() bool { return p.Version != "" && p.State != key.Void }

// Versions is the version and its aliases: everything that the vault has of the placement.
func (p Placement) Versions() []string { return append([]string{p.Version}, p.Aliases...) }

// Enabled lists those of its versions that are enabled, as far as the record knows.
func (p Placement) Enabled() []string {
	if p.State == key.Disabled {
		return nil
	}
	return slices.DeleteFunc(p.Versions(), func(id string) bool { return slices.Contains(p.DisabledVersions, id) })
}

// BeingDisabled lists those of its versions of which keyd does not know yet whether they are disabled.
func (p Placement) BeingDisabled() []string {
	switch {
	case p.State != key.Disabling:
		return nil
	case p.Disables != "":
		return []string{p.Disables}
	}
	return p.Enabled()
}

// ProvableBy is the operations that the placement was imported with, and otherwise the given ones, where the record
// does not tell. The policy may have changed since the import.
func (p Placement) ProvableBy(otherwise []key.Operation) []key.Operation {
	if len(p.Operations) > 0 {
		return p.Operations
	}
	return otherwise
}
