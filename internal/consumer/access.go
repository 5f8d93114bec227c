package consumer

import (
	"regexp"
	"slices"
	"strings"
)

// permission is what a role allows, or what a deny assignment takes away. In its patterns * is anything.
type permission struct {
	Actions        []string `json:"actions"`
	NotActions     []string `json:"notActions"`
	DataActions    []string `json:"dataActions"`
	NotDataActions []string `json:"notDataActions"`
	Condition      *string  `json:"condition"`
}

// onData reports whether the permission is about a data action, such as Microsoft.KeyVault/vaults/keys/read.
func (p permission) onData(action string) bool {
	return matches(p.DataActions, action) && !matches(p.NotDataActions, action)
}

// onResources reports whether the permission is about an action of Resource Manager.
func (p permission) onResources(action string) bool {
	return matches(p.Actions, action) && !matches(p.NotActions, action)
}

func matches(patterns []string, action string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		text := strings.ReplaceAll(regexp.QuoteMeta(p), `\*`, ".*")
		return regexp.MustCompile("(?is)^" + text + "$").MatchString(action)
	})
}

// grant is a role that somebody has at a scope.
type grant struct {
	role        string // name
	scope       string
	conditional bool
	permissions []permission
	// unsure: it is another's, who may be a group that the identity is in. Azure does not say who is in a group of a
	// Managed HSM's own roles, or of an access policy.
	unsure bool
}

// denial is a deny assignment that may concern an identity.
type denial struct {
	name        string
	permissions []permission
}

// access is what decides whether an identity may do something with one key.
type access struct {
	grants  []grant
	denials []denial
}

// verdict is which of the actions that it needs an identity has.
type verdict struct {
	has     []string // the roles that allow them
	missing []string // actions that nothing allows
	open    []string // why it is not decided, one reason each
}

// judge goes by actions and not by the names of roles. One that is missing is missing whatever is not decided.
func (a access) judge(needs []string, about func(permission, string) bool) (v verdict) {
	for _, action := range needs {
		covers := func(p permission) bool { return about(p, action) }
		plain, maybe := false, []string(nil)
		for _, g := range a.grants {
			var why string
			switch allowed, conditional := g.allows(covers); {
			case !allowed:
				continue
			case g.unsure:
				why = g.role + " has it, which may be a group that the identity is in"
			case conditional:
				why = "the role " + g.role + " at " + g.scope + " has a condition, which keyd does not evaluate"
			default:
				plain = true
				v.has = add1(v.has, g.role+" at "+g.scope)
				continue
			}
			maybe = add1(maybe, why)
		}
		switch {
		case plain:
		case len(maybe) > 0:
			for _, why := range maybe {
				v.open = add1(v.open, why)
			}
		default:
			v.missing = append(v.missing, action)
			continue
		}
		for _, d := range a.denials {
			if slices.ContainsFunc(d.permissions, covers) {
				v.open = add1(v.open, "the deny assignment "+d.name+" may take it away")
			}
		}
	}
	return v
}

// allows reports whether the role allows something, and whether only under a condition.
func (g grant) allows(covers func(permission) bool) (allowed, conditional bool) {
	conditional = true
	for _, p := range g.permissions {
		if covers(p) {
			allowed = true
			conditional = conditional && (g.conditional || orEmpty(p.Condition) != "")
		}
	}
	return allowed, allowed && conditional
}

// add1 adds a text, unless it is there already.
func add1(all []string, text string) []string {
	if slices.Contains(all, text) {
		return all
	}
	return append(all, text)
}

// reaches reports whether what is assigned at a scope holds at a place below it. Whatever is listed for a place from a
// management group, or from the root, is above it.
func reaches(scope, place string) bool {
	s, p := strings.ToLower(strings.TrimSuffix(scope, "/")), strings.ToLower(place)
	return s == "" || strings.HasPrefix(s, "/providers/microsoft.management/managementgroups/") || s == p ||
		strings.HasPrefix(p, s+"/")
}

// everyone is how a deny assignment names all principals.
const everyone = "00000000-0000-0000-0000-000000000000"

type principal struct {
	ID   *string `json:"id"`
	Type *string `json:"type"`
}

// mayConcern reports whether an assignment with these principals may concern an identity: it names the identity,
// everyone, or a group, since nobody says who is in it.
func mayConcern(identity string, principals, excluded []principal) bool {
	is := func(p principal) bool { return strings.EqualFold(orEmpty(p.ID), identity) }
	if slices.ContainsFunc(excluded, is) {
		return false
	}
	return slices.ContainsFunc(principals, func(p principal) bool {
		return is(p) || orEmpty(p.ID) == everyone || !strings.EqualFold(orEmpty(p.Type), "ServicePrincipal") &&
			!strings.EqualFold(orEmpty(p.Type), "User")
	})
}
