package config

import "slices"

// keyFields are the fields of a key. All of them may stand in the section defaults, too.
var keyFields = []string{"spec", "vaults", "schedule", "operations", "retire", "floor", "budget", "window", "spread",
	"spares", "expires_after", "labels", "consumers"}

// readDefaults checks what keys have in common: each value alone. Whether the values fit together shows only with a
// key, which may override any of them.
func readDefaults(s *section, vaults knownVaults) {
	s.only(keyFields...)
	p := readKeyValues(s)
	if s.has("vaults") {
		readKeyVaults(&p, s, vaults)
	}
	checkDefaultConsumers(s)
}

// inherit takes from the defaults what the section does not have.
func (s *section) inherit(defaults *section) {
	for _, f := range defaults.fields {
		if !s.has(f.name) && slices.Contains(keyFields, f.name) {
			f.inherited = true
			s.byName[f.name] = f
		}
	}
}

// own is the full name of one of the section's fields, wherever its value comes from.
func (s *section) own(field string) string {
	if s.path == "" {
		return field
	}
	return s.path + "." + field
}

// conflict returns where to report that a field does not fit others, and its name: at the first of them that stands in
// the section itself, else in the defaults, where it is one mistake for all keys.
func (s *section) conflict(field string, others ...string) (where position, name string) {
	for _, name := range append([]string{field}, others...) {
		if f, ok := s.byName[name]; ok && !f.inherited {
			return f.where(), s.own(field)
		}
	}
	return s.whereOf(field), s.name(field)
}
