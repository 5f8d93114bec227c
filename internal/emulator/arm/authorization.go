package arm

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Role is a role of Azure RBAC. In its actions, * is anything.
type Role struct {
	Name                        string
	Actions, NotActions         []string // such as Microsoft.Storage/storageAccounts/read
	DataActions, NotDataActions []string // such as Microsoft.KeyVault/vaults/keys/read
}

// RoleAssignment gives a principal a role at a scope and below.
type RoleAssignment struct {
	Principal string // object id of an identity or a group
	Role      string // name
	// Scope is "/", or the id of a management group, a subscription, a resource group, a resource or a vault's key.
	Scope string
	// Condition restricts the role. The emulator does not evaluate it: such an assignment allows nothing.
	Condition string
}

// DenyAssignment takes rights away at a scope and below, whatever the roles say.
type DenyAssignment struct {
	Name                 string
	Principal            string // "": everybody
	Scope                string
	Actions, DataActions []string
}

// directory is who may do what.
type directory struct {
	mu       sync.RWMutex
	roles    []Role // custom ones
	assigned []assignment
	denials  []DenyAssignment
	groups   map[string][]string // members by the group's lower-case id
}

// assignment is a role assignment from the time at which it has effect.
type assignment struct {
	RoleAssignment
	name string // a GUID
	from time.Time
}

var scopes = regexp.MustCompile(`(?i)^(/|/subscriptions/.+|/providers/Microsoft\.Management/managementGroups/[^/]+)$`)

// DefineRole adds a custom role, or replaces it.
func (s *Service) DefineRole(r Role) {
	s.directory.mu.Lock()
	defer s.directory.mu.Unlock()
	s.directory.roles = slices.DeleteFunc(s.directory.roles, func(o Role) bool { return o.Name == r.Name })
	s.directory.roles = append(s.directory.roles, r)
}

// Assign gives a role, which takes effect after Config.RoleDelay.
func (s *Service) Assign(a RoleAssignment) error {
	return s.assign(a, guidOf(a.Principal+" "+a.Role+" "+a.Scope))
}

func (s *Service) assign(a RoleAssignment, name string) error {
	switch {
	case a.Principal == "":
		return fmt.Errorf("a role assignment needs the object id of a principal")
	case s.role(a.Role) == nil:
		return fmt.Errorf("unknown role %q: write one of %q, or define it", a.Role, roleNames())
	case !scopes.MatchString(a.Scope):
		return fmt.Errorf("unknown scope %q: write /, or the id of a management group, a subscription, or something "+
			"in one", a.Scope)
	}
	s.directory.mu.Lock()
	defer s.directory.mu.Unlock()
	s.directory.assigned = append(s.directory.assigned, assignment{a, name, s.cfg.Now().Add(s.cfg.RoleDelay)})
	return nil
}

// Unassign takes a role away at once.
func (s *Service) Unassign(a RoleAssignment) error {
	if !s.unassign(func(o assignment) bool { return o.RoleAssignment == a }) {
		return fmt.Errorf("%s has no role %q at %s", a.Principal, a.Role, a.Scope)
	}
	return nil
}

func (s *Service) unassign(which func(assignment) bool) bool {
	s.directory.mu.Lock()
	defer s.directory.mu.Unlock()
	before := len(s.directory.assigned)
	s.directory.assigned = slices.DeleteFunc(s.directory.assigned, which)
	return len(s.directory.assigned) < before
}

// Deny adds a deny assignment; one without actions ends that of the same name.
func (s *Service) Deny(d DenyAssignment) {
	s.directory.mu.Lock()
	defer s.directory.mu.Unlock()
	same := func(o DenyAssignment) bool { return o.Name == d.Name }
	s.directory.denials = slices.DeleteFunc(s.directory.denials, same)
	if len(d.Actions)+len(d.DataActions) > 0 {
		s.directory.denials = append(s.directory.denials, d)
	}
}

// SetGroup says who is in a group: identities and other groups.
func (s *Service) SetGroup(group string, members ...string) {
	s.directory.mu.Lock()
	defer s.directory.mu.Unlock()
	s.directory.groups[strings.ToLower(group)] = members
}

// are returns a principal and the groups that it is in, in lower case.
func (d *directory) are(principal string) []string {
	found := []string{strings.ToLower(principal)}
	for i := 0; i < len(found); i++ {
		for group, members := range d.groups {
			in := slices.ContainsFunc(members, func(m string) bool { return strings.EqualFold(m, found[i]) })
			if in && !slices.Contains(found, group) {
				found = append(found, group)
			}
		}
	}
	return found
}

// Verdict is what the role and deny assignments say of one action.
type Verdict struct {
	Allowed, Denied bool
	Assignment      string // name of the one that allows
}

// MayUse judges a data action, such as Microsoft.KeyVault/vaults/keys/read, at a scope.
func (s *Service) MayUse(principal, dataAction, scope string) Verdict {
	return s.judge(principal, scope, dataAction, func(r *Role) ([]string, []string) {
		return r.DataActions, r.NotDataActions
	}, func(d DenyAssignment) []string { return d.DataActions })
}

// may judges an action of Resource Manager.
func (s *Service) may(principal, action, scope string) Verdict {
	return s.judge(principal, scope, action, func(r *Role) ([]string, []string) { return r.Actions, r.NotActions },
		func(d DenyAssignment) []string { return d.Actions })
}

func (s *Service) judge(principal, scope, action string, of func(*Role) (allowed, not []string),
	denied func(DenyAssignment) []string) (v Verdict) {
	s.directory.mu.RLock()
	defer s.directory.mu.RUnlock()
	who := s.directory.are(principal)
	for _, d := range s.directory.denials {
		concerned := d.Principal == "" || slices.Contains(who, strings.ToLower(d.Principal))
		v.Denied = v.Denied || concerned && covers(d.Scope, scope) && includes(denied(d), action)
	}
	for _, a := range s.directory.assigned {
		if s.cfg.Now().Before(a.from) || a.Condition != "" || !slices.Contains(who, strings.ToLower(a.Principal)) ||
			!covers(a.Scope, scope) {
			continue
		}
		if allowed, not := of(s.directory.role(a.Role)); includes(allowed, action) && !includes(not, action) {
			v.Allowed, v.Assignment = true, a.name
		}
	}
	return v
}

// covers reports whether a scope is around another, or is it. Every subscription is in every management group.
func covers(around, scope string) bool {
	around, scope = strings.ToLower(strings.TrimSuffix(around, "/")), strings.ToLower(strings.TrimSuffix(scope, "/"))
	group := strings.HasPrefix(around, "/providers/microsoft.management/")
	return around == "" || scope == around || strings.HasPrefix(scope, around+"/") ||
		group && strings.HasPrefix(scope, "/subscriptions/")
}

// includes reports whether an action is in a list with * in it.
func includes(patterns []string, action string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		parts := strings.Split(strings.ToLower(p), "*")
		rest, ok := strings.CutPrefix(strings.ToLower(action), parts[0])
		for i, part := range parts[1:] {
			if !ok {
				return false
			}
			if i == len(parts)-2 {
				return strings.HasSuffix(rest, part)
			}
			_, rest, ok = strings.Cut(rest, part)
		}
		return ok && rest == ""
	})
}
