package arm

import (
	"encoding/json"
	"maps"
	"strings"
)

// document is a resource as JSON. Names are compared without regard to case, as
// Resource Manager does; a name keeps the spelling in which it first came.
type document map[string]any

// parseDocument reads a JSON object.
func parseDocument(text []byte) (document, error) {
	var d document
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, err
	}
	return d, nil
}

// spelled returns the spelling of name in d, or name itself.
func (d document) spelled(name string) string {
	if _, ok := d[name]; ok {
		return name
	}
	for have := range d {
		if strings.EqualFold(have, name) {
			return have
		}
	}
	return name
}

// sub returns the object at a path, or nil.
func (d document) sub(path ...string) document {
	for _, name := range path {
		switch next := d[d.spelled(name)].(type) {
		case document:
			d = next
		case map[string]any:
			d = next
		default:
			return nil
		}
	}
	return d
}

// text returns the string at a path, or "".
func (d document) text(path ...string) string {
	last := len(path) - 1
	parent := d.sub(path[:last]...)
	s, _ := parent[parent.spelled(path[last])].(string)
	return s
}

func (d document) flag(path ...string) bool {
	last := len(path) - 1
	parent := d.sub(path[:last]...)
	b, _ := parent[parent.spelled(path[last])].(bool)
	return b
}

// set writes a value at a path and creates the objects on the way.
func (d document) set(value any, path ...string) {
	for _, name := range path[:len(path)-1] {
		next := d.sub(name)
		if next == nil {
			next = document{}
			d[d.spelled(name)] = next
		}
		d = next
	}
	name := path[len(path)-1]
	d[d.spelled(name)] = value
}

// number returns the number at a path, or 0.
func (d document) number(path ...string) float64 {
	last := len(path) - 1
	parent := d.sub(path[:last]...)
	n, _ := parent[parent.spelled(path[last])].(float64)
	return n
}

// unset removes what is at a path.
func (d document) unset(path ...string) {
	last := len(path) - 1
	parent := d.sub(path[:last]...)
	delete(parent, parent.spelled(path[last]))
}

// list returns the objects in the array at a path.
func (d document) list(path ...string) (objects []document) {
	last := len(path) - 1
	parent := d.sub(path[:last]...)
	array, _ := parent[parent.spelled(path[last])].([]any)
	for _, one := range array {
		if object, ok := one.(map[string]any); ok {
			objects = append(objects, object)
		}
	}
	return objects
}

// clone copies the objects, and shares what is not one.
func (d document) clone() document {
	out := maps.Clone(d)
	for name := range out {
		if inner := out.sub(name); inner != nil {
			out[name] = inner.clone()
		}
	}
	return out
}

// merge applies a JSON merge patch (RFC 7396).
func (d document) merge(patch document) {
	for name, value := range patch {
		at := d.spelled(name)
		inner := patch.sub(name)
		switch {
		case value == nil:
			delete(d, at)
		case inner == nil:
			d[at] = value
		default:
			if d.sub(at) == nil {
				d[at] = document{}
			}
			d.sub(at).merge(inner)
		}
	}
}
