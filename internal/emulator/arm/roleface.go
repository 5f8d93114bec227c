package arm

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

func init() {
	faces["microsoft.authorization/roleassignments"] = (*Service).roleAssignments
	faces["microsoft.authorization/roledefinitions"] = (*Service).roleDefinitions
	faces["microsoft.authorization/denyassignments"] = (*Service).denyAssignments
}

// filter is what a list of assignments may be filtered by.
type filter struct {
	atScope    bool   // at the scope or above, not below
	assignedTo string // also through groups
	principal  string // not through groups
	roleName   string
}

var filterTerm = regexp.MustCompile(`(?i)^\s*(?:(atScope\(\))|assignedTo\('([^']*)'\)|principalId eq '([^']*)'|` +
	`roleName eq '([^']*)')\s*$`)

func parseFilter(text string) (f filter, err error) {
	if text == "" {
		return f, nil
	}
	for _, term := range strings.Split(text, " and ") {
		m := filterTerm.FindStringSubmatch(term)
		switch {
		case m == nil:
			return f, refuse(http.StatusBadRequest, "UnsupportedQuery",
				"The filter %q is not supported: write atScope(), assignedTo('ID') or principalId eq 'ID'.", text)
		case m[1] != "":
			f.atScope = true
		case m[2] != "":
			f.assignedTo = m[2]
		case m[3] != "":
			f.principal = m[3]
		default:
			f.roleName = m[4]
		}
	}
	return f, nil
}

// concerns reports whether an assignment at a scope is in a list for another.
func (f filter) concerns(at, asked string) bool {
	return covers(at, asked) || !f.atScope && covers(asked, at)
}

// roleAssignments answers for SCOPE/providers/Microsoft.Authorization/roleAssignments[/NAME].
func (s *Service) roleAssignments(_ context.Context, p place, r Request) (Response, error) {
	f, err := parseFilter(r.Query.Get("$filter"))
	if err != nil {
		return Response{}, err
	}
	found := []document{}
	for _, a := range s.assignments() {
		if p.all() && f.concerns(a.Scope, p.scope) && s.isFor(f, a.Principal) ||
			!p.all() && strings.EqualFold(a.name, p.names[0]) {
			found = append(found, s.assignmentShown(a))
		}
	}
	switch {
	case p.all() && r.Method == http.MethodGet:
		return s.page(r, found)
	case !p.all() && r.Method == http.MethodPut:
		return s.putAssignment(p, r)
	case len(found) == 0:
		return Response{}, refuse(http.StatusNotFound, "RoleAssignmentNotFound",
			"The role assignment '%s' is not found.", p.name())
	case r.Method == http.MethodGet:
		return Response{Status: http.StatusOK, Body: found[0]}, nil
	case r.Method == http.MethodDelete:
		s.unassign(func(a assignment) bool { return strings.EqualFold(a.name, p.names[0]) })
		return Response{Status: http.StatusOK, Body: found[0]}, nil
	}
	return Response{}, notAllowed(r.Method)
}

func (s *Service) putAssignment(p place, r Request) (Response, error) {
	body, err := parseDocument(r.Body)
	if err != nil {
		return Response{}, refuse(http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid: %v",
			err)
	}
	a := RoleAssignment{Principal: body.text("properties", "principalId"), Scope: p.scope,
		Condition: body.text("properties", "condition")}
	if a.Scope == "" {
		a.Scope = "/"
	}
	id := body.text("properties", "roleDefinitionId")
	for _, d := range s.definitions() {
		if name := d.text("name"); strings.EqualFold(id[strings.LastIndex(id, "/")+1:], name) {
			a.Role = d.text("properties", "roleName")
		}
	}
	if err := s.assign(a, p.names[0]); err != nil {
		return Response{}, badKey("%v", err)
	}
	return Response{Status: http.StatusCreated, Body: s.assignmentShown(assignment{RoleAssignment: a,
		name: p.names[0]})}, nil
}

// assignments are those that somebody made, and those that the vaults have of their own.
func (s *Service) assignments() []assignment {
	s.directory.mu.RLock()
	all := slices.Clone(s.directory.assigned)
	s.directory.mu.RUnlock()
	if s.cfg.VaultRoles != nil {
		for _, a := range s.cfg.VaultRoles() {
			all = append(all, assignment{RoleAssignment: a, name: guidOf(a.Principal + a.Role + a.Scope)})
		}
	}
	return all
}

func (s *Service) isFor(f filter, principal string) bool {
	s.directory.mu.RLock()
	defer s.directory.mu.RUnlock()
	return (f.principal == "" || strings.EqualFold(f.principal, principal)) &&
		(f.assignedTo == "" || slices.Contains(s.directory.are(f.assignedTo), strings.ToLower(principal)))
}

func (s *Service) assignmentShown(a assignment) document {
	properties := document{
		"roleDefinitionId": roleDefinitionID(a.Role), "principalId": a.Principal,
		"principalType": s.principalType(a.Principal), "scope": a.Scope,
	}
	if a.Condition != "" {
		properties["condition"], properties["conditionVersion"] = a.Condition, "2.0"
	}
	return document{
		"id":   strings.TrimSuffix(a.Scope, "/") + "/providers/Microsoft.Authorization/roleAssignments/" + a.name,
		"name": a.name, "type": "Microsoft.Authorization/roleAssignments", "properties": properties,
	}
}

func (s *Service) principalType(id string) string {
	s.directory.mu.RLock()
	defer s.directory.mu.RUnlock()
	if _, ok := s.directory.groups[strings.ToLower(id)]; ok {
		return "Group"
	}
	return "ServicePrincipal"
}

// roleDefinitions answers for SCOPE/providers/Microsoft.Authorization/roleDefinitions[/NAME].
func (s *Service) roleDefinitions(_ context.Context, p place, r Request) (Response, error) {
	f, err := parseFilter(r.Query.Get("$filter"))
	switch {
	case err != nil:
		return Response{}, err
	case r.Method != http.MethodGet:
		return Response{}, notAllowed(r.Method)
	}
	found := []document{}
	for _, d := range s.definitions() {
		if p.all() && (f.roleName == "" || strings.EqualFold(f.roleName, d.text("properties", "roleName"))) ||
			!p.all() && strings.EqualFold(p.names[0], d.text("name")) {
			found = append(found, d)
		}
	}
	switch {
	case p.all():
		return s.page(r, found)
	case len(found) == 0:
		return Response{}, refuse(http.StatusNotFound, "RoleDefinitionDoesNotExist",
			"The specified role definition with ID '%s' does not exist.", p.name())
	}
	return Response{Status: http.StatusOK, Body: found[0]}, nil
}

// denyAssignments answers for SCOPE/providers/Microsoft.Authorization/denyAssignments.
func (s *Service) denyAssignments(_ context.Context, p place, r Request) (Response, error) {
	f, err := parseFilter(r.Query.Get("$filter"))
	switch {
	case err != nil:
		return Response{}, err
	case r.Method != http.MethodGet || !p.all():
		return Response{}, notAllowed(r.Method)
	}
	s.directory.mu.RLock()
	denials := slices.Clone(s.directory.denials)
	s.directory.mu.RUnlock()
	found := []document{}
	for _, d := range denials {
		if f.concerns(d.Scope, p.scope) && (d.Principal == "" || s.isFor(f, d.Principal)) {
			found = append(found, s.denialShown(d))
		}
	}
	return s.page(r, found)
}

// everyone is how a deny assignment names all principals.
const everyone = "00000000-0000-0000-0000-000000000000"

func (s *Service) denialShown(d DenyAssignment) document {
	who := document{"id": everyone, "type": "SystemDefined"}
	if d.Principal != "" {
		who = document{"id": d.Principal, "type": s.principalType(d.Principal)}
	}
	name := guidOf("deny " + d.Name)
	list := func(actions []string) []string { return append([]string{}, actions...) }
	return document{
		"id":   strings.TrimSuffix(d.Scope, "/") + "/providers/Microsoft.Authorization/denyAssignments/" + name,
		"name": name, "type": "Microsoft.Authorization/denyAssignments",
		"properties": document{
			"denyAssignmentName": d.Name, "scope": d.Scope, "doNotApplyToChildScopes": false, "isSystemProtected": true,
			"principals": []document{who}, "excludePrincipals": []document{},
			"permissions": []document{{"actions": list(d.Actions), "notActions": []string{},
				"dataActions": list(d.DataActions), "notDataActions": []string{}}},
		},
	}
}
