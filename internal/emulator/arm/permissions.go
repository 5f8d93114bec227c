package arm

import (
	"context"
	"net/http"
)

func init() { faces["microsoft.authorization/permissions"] = (*Service).permissions }

// permissions answers for SCOPE/providers/Microsoft.Authorization/permissions: what the roles of the caller let it do
// there. It does not mention deny assignments.
func (s *Service) permissions(_ context.Context, p place, r Request) (Response, error) {
	if r.Method != http.MethodGet || !p.all() {
		return Response{}, notAllowed(r.Method)
	}
	if !s.cfg.Enforce { // everyone owns everything
		return s.page(r, []document{permissionsOf(s.role("Owner"))})
	}
	found := []document{}
	for _, a := range s.assignments() {
		if a.Condition == "" && !s.cfg.Now().Before(a.from) && covers(a.Scope, p.scope) &&
			s.isFor(filter{assignedTo: r.Caller}, a.Principal) {
			found = append(found, permissionsOf(s.role(a.Role)))
		}
	}
	return s.page(r, found)
}

func permissionsOf(r *Role) document {
	list := func(actions []string) []string { return append([]string{}, actions...) }
	return document{"actions": list(r.Actions), "notActions": list(r.NotActions), "dataActions": list(r.DataActions),
		"notDataActions": list(r.NotDataActions)}
}
