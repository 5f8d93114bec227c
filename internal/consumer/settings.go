package consumer

import (
	"bytes"
	"encoding/json"
	"maps"
	"strings"
)

// settings is an object in the JSON of a resource. Who changes a resource must send much of it as it was, with fields
// that keyd does not know. Names are compared without case, as Resource Manager does, and keep their spelling.
type settings map[string]any

// parseSettings reads the JSON of a resource.
func parseSettings(text []byte) (settings, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber() // a number goes back as it came
	var s settings
	if err := d.Decode(&s); err != nil {
		return nil, badAnswerf("%v", err)
	}
	return s, onlyOnce(text, everyDepth)
}

// spelled is the spelling that a name has in s, or the name itself.
func (s settings) spelled(name string) string {
	for have := range s {
		if strings.EqualFold(have, name) {
			return have
		}
	}
	return name
}

// at is the object at a path; nil: there is none.
func (s settings) at(path ...string) settings {
	for _, name := range path {
		inner, _ := s[s.spelled(name)].(map[string]any)
		s = inner
	}
	return s
}

// text is the string with a name; "": there is none.
func (s settings) text(name string) string {
	t, _ := s[s.spelled(name)].(string)
	return t
}

// has reports whether there is a value with a name, other than null.
func (s settings) has(name string) bool { return s[s.spelled(name)] != nil }

// only is s with nothing but these names.
func (s settings) only(names ...string) settings {
	kept := settings{}
	for _, name := range names {
		if s.has(name) {
			kept[s.spelled(name)] = s[s.spelled(name)]
		}
	}
	return kept
}

// without is s without these names.
func (s settings) without(names ...string) settings {
	kept := maps.Clone(s)
	for _, name := range names {
		delete(kept, kept.spelled(name))
	}
	return kept
}

// with is s with another value for a name.
func (s settings) with(name string, value any) settings {
	changed := maps.Clone(s)
	if changed == nil {
		changed = settings{}
	}
	changed[changed.spelled(name)] = value
	return changed
}

// properties is a resource's body with nothing but these properties.
func properties(p settings) settings { return settings{"properties": p} }
