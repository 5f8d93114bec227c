package arm

import (
	"net/http"
	"regexp"
	"strings"
)

// place is what a path names.
type place struct {
	scope string // what is before the last /providers/
	// path is the provider with the types of the resource and, before it, of its parents, as in
	// Microsoft.Sql/servers/keys.
	path      string
	names     []string // one for each type; one less: all resources of the type
	action    string   // what is posted to a resource
	operation string   // id of an operation
	result    bool     // a request for the operation's result, not its status
}

var providers = regexp.MustCompile(`(?i)/providers/`)

// parsePlace reads SCOPE/providers/NAMESPACE/TYPE[/NAME[/TYPE[/NAME]]][/ACTION] and
// SCOPE/providers/NAMESPACE/locations/LOCATION/operation(s|results)/ID.
func parsePlace(method, path string) (place, bool) {
	found := providers.FindAllStringIndex(path, -1)
	if found == nil {
		return place{}, false
	}
	at := found[len(found)-1]
	segments := strings.Split(strings.Trim(path[at[1]:], "/"), "/")
	p := place{scope: path[:at[0]]}
	if len(segments) == 5 && strings.EqualFold(segments[1], "locations") {
		p.operation, p.result = segments[4], strings.EqualFold(segments[3], "operationresults")
		return p, true
	}
	p.path = segments[0]
	last := len(segments) - 1
	if method == http.MethodPost && last > 1 && last%2 == 1 {
		p.action, segments = segments[last], segments[:last]
	}
	for i, s := range segments[1:] {
		if i%2 == 0 {
			p.path += "/" + s
		} else {
			p.names = append(p.names, s)
		}
	}
	types := strings.Count(p.path, "/")
	return p, types > 0 && types <= 3
}

// NameIn is the name of the resource that a path is about, with what is asked of it: NAME, NAME/CHILDREN or
// NAME/CHILDREN/CHILD.
func NameIn(path string) string {
	found := providers.FindAllStringIndex(path, -1)
	if found == nil {
		return ""
	}
	parts := strings.SplitN(strings.Trim(path[found[len(found)-1][1]:], "/"), "/", 3)
	if len(parts) < 3 || strings.EqualFold(parts[1], "locations") {
		return ""
	}
	return parts[2]
}

// all reports whether the place is all resources of a type.
func (p place) all() bool { return len(p.names) < strings.Count(p.path, "/") }

// name is that of the resource, with its parents' before it.
func (p place) name() string { return strings.Join(p.names, "/") }

// id is the resource id of the place, with the types spelled as in path.
func (p place) id(path string) string {
	types := strings.Split(path, "/")
	id := p.scope + "/providers/" + types[0]
	for i, name := range p.names {
		id += "/" + types[i+1] + "/" + name
	}
	return id
}

// parent is the place around a child.
func (p place) parent() place {
	p.path = p.path[:strings.LastIndex(p.path, "/")]
	p.names = p.names[:strings.Count(p.path, "/")]
	return p
}

// ofSubscription reports whether the place is in a subscription, and not in the tenant or a management group.
func (p place) ofSubscription() bool {
	return strings.HasPrefix(strings.ToLower(p.scope), "/subscriptions/")
}
