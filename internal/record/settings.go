package record

import (
	"encoding/json"
	"slices"
)

// SettingsName is the name of the record of Settings. No key and no vault can have it.
const SettingsName = "keyd:settings"

// Settings are the guarded settings that keyd acts on. They are kept while a change of them needs a second operator, so
// that a restart with other files is no way around that operator.
type Settings struct {
	Schema int    `json:"schema"`
	Name   string `json:"name"` // SettingsName
	// Revision is the store's: 0 for a record that was never saved.
	Revision uint64 `json:"-"`
	// InForce is what package config made of them; nil: no change needs a second operator.
	InForce json.RawMessage `json:"in_force,omitempty"`
	// Proposals has at most one: the files are read as a whole.
	Proposals Proposals `json:"proposals,omitempty"`
}

// State is a digest of everything in the record but its proposals.
func (s Settings) State() (string, error) {
	s.Proposals, s.Schema = nil, 0
	return stateOf(s)
}

// Clone returns a copy that shares nothing that anybody changes.
func (s Settings) Clone() Settings {
	s.InForce, s.Proposals = slices.Clone(s.InForce), slices.Clone(s.Proposals)
	return s
}
