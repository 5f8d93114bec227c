package config

import (
	"regexp"
	"slices"
	"strings"

	"github.com/keyd-project/keyd/internal/service"
)

const resourceRemedy = "write the id that az prints (`az resource list --name NAME --query '[].id' -o tsv`): " +
	"/subscriptions/…/resourceGroups/…/providers/…"

var (
	// groupForm is Azure's rule for the name of a resource group.
	groupForm = regexp.MustCompile(`^[\p{L}\p{N}_().-]{0,89}[\p{L}\p{N}_()-]$`)
	// nameForm has the names of all resources that keyd understands, and of their types.
	nameForm = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z_.-]{0,259}$`)
)

// parseResource accepts the id of a resource whose type keyd understands. keyd asks Azure for it by this very text, so
// nothing in it may mean something else in a URL.
func parseResource(id string) (string, error) {
	switch parts := strings.Split(id, "/"); {
	case id == noConsumers:
		return "", faultf("write consumers: none, without brackets and without other entries", "none stands in a list")
	case strings.Contains(id, "://"):
		return "", faultf(resourceRemedy, "%q is a URL, and not the id of a resource", id)
	case !isResource(parts):
		return "", faultf(resourceRemedy, "%q is not the id of a resource", id)
	case !uuidForm.MatchString(parts[2]):
		return "", faultf(resourceRemedy, "%q in the resource id is not the UUID of a subscription", parts[2])
	}
	if _, ok := service.Of(id); !ok {
		return "", notUnderstood(id)
	}
	return id, nil
}

// isResource reports whether a path is /subscriptions/S/resourceGroups/G/providers/P/TYPE/NAME, with types and names of
// children after it.
func isResource(parts []string) bool {
	if len(parts) < 9 || len(parts)%2 == 0 || parts[0] != "" {
		return false
	}
	for i, word := range map[int]string{1: "subscriptions", 3: "resourceGroups", 5: "providers"} {
		if !strings.EqualFold(parts[i], word) {
			return false
		}
	}
	return groupForm.MatchString(parts[4]) &&
		!slices.ContainsFunc(parts[6:], func(p string) bool { return !nameForm.MatchString(p) })
}

// notUnderstood says which types keyd understands, or that it looks at a child by itself.
func notUnderstood(id string) error {
	parts := strings.Split(id, "/")
	parent := strings.Join(parts[:len(parts)-2], "/")
	if s, ok := service.Of(parent); ok {
		return faultf("write the id of the "+s.Name+": "+parent, "keyd does not understand a %s alone",
			service.TypeOf(id))
	}
	var known []string
	for _, s := range service.All() {
		known = append(known, s.Type)
	}
	return fault{"keyd does not understand the type " + service.TypeOf(id), suggest(service.TypeOf(id), known)}
}
