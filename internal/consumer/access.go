package consumer

import (
	"regexp"
	"slices"
	"strings"
)

// permission is what a role allows, or what a deny assignment takes away. In its patterns * is anything.
type permission struct {
	DataActions    []string `json:"dataActions"`
	NotDataActions []string `json:"notDataActions"`
	Condition      *string  `json:"condition"`
}

// covers reports whether the permission is about a data action, such as Microsoft.KeyVault/vaults/keys/read.
func (p permission) covers(action string) bool {
	return matches(p.DataActions, action) && !matches(p.NotDataActions, action)
}

func (p permission) conditional() bool { return orEmpty(p.Condition) != "" }

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
func (a access) judge(needs []string) (v verdict) {
	for _, action := range needs {
		var has, open []string
		for _, g := range a.grants {
			switch allowed, unless := g.allows(action); {
			case allowed && unless == "":
				has = append(has, g.role+" at "+g.scope)
			case allowed:
				open = append(open, unless)
			}
		}
		switch {
		case len(has) > 0:
			open = nil
		case len(open) == 0:
			v.missing = append(v.missing, action)
			continue
		}
		for _, d := range a.denials {
			if anyCovers(d.permissions, action) {
				open = append(open, "the deny assignment "+d.name+" may take it away")
			}
		}
		v.has, v.open = union(v.has, has), union(v.open, open)
	}
	return v
}

// allows reports whether the role allows an action, and if that is not certain, why.
func (g grant) allows(action string) (allowed bool, unless string) {
	plain := slices.DeleteFunc(slices.Clone(g.permissions), permission.conditional)
	switch {
	case !anyCovers(g.permissions, action):
		return false, ""
	case g.unsure:
		return true, g.role + " has it, which may be a group that the identity is in"
	case g.conditional, !anyCovers(plain, action):
		return true, "the role " + g.role + " at " + g.scope + " has a condition, which keyd does not evaluate"
	}
	return true, ""
}

func anyCovers(all []permission, action string) bool {
	return slices.ContainsFunc(all, func(p permission) bool { return p.covers(action) })
}

// union has each text once.
func union(all, more []string) []string {
	for _, text := range more {
		if !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	return all
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
