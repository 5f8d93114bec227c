package arm

import (
	"net/http"
	"strings"
)

// authorize returns why the roles do not let a caller make a request, or nil. A resource can be given only an identity
// that the caller may assign.
func (s *Service) authorize(p place, r Request) error {
	action := p.path + map[string]string{
		http.MethodGet: "/read", http.MethodHead: "/read", http.MethodPut: "/write", http.MethodPatch: "/write",
		http.MethodDelete: "/delete", http.MethodPost: "/" + p.action + "/action",
	}[r.Method]
	scope := p.scope
	if !p.all() {
		scope = p.id(p.path)
	}
	if err := s.permit(r.Caller, action, scope); err != nil {
		return err
	}
	if r.Method != http.MethodPut && r.Method != http.MethodPatch {
		return nil
	}
	body, _ := parseDocument(r.Body) // whoever reads it says what is wrong with it
	for id := range body.sub("identity", "userAssignedIdentities") {
		if err := s.permit(r.Caller, userIdentityPath+"/assign/action", id); err != nil {
			return refuse(http.StatusForbidden, "LinkedAuthorizationFailed", "The client has permission to perform "+
				"action '%s' on scope '%s'; however, it does not have permission to perform an action on the linked "+
				"scope: %v", action, scope, err)
		}
	}
	return nil
}

// permit judges an action by the roles, if Config.Enforce says so.
func (s *Service) permit(caller, action, scope string) error {
	if scope == "" {
		scope = "/"
	}
	v := s.may(caller, action, scope)
	switch {
	case v.Denied:
		return refuse(http.StatusForbidden, "DenyAssignmentAuthorizationFailed", "The client '%s' with object id '%s' "+
			"has permission to perform action '%s' on scope '%s'; however, the access is denied because of a deny "+
			"assignment.", caller, caller, action, scope)
	case s.cfg.Enforce && !v.Allowed:
		return refuse(http.StatusForbidden, "AuthorizationFailed", "The client '%s' with object id '%s' does not have "+
			"authorization to perform action '%s' over scope '%s' or the scope is invalid. If access was recently "+
			"granted, please refresh your credentials.", caller, caller, action, strings.TrimSuffix(scope, "/"))
	}
	return nil
}

// Permits reports whether a caller may do an action: everyone may, unless roles are enforced or a deny assignment
// forbids it.
func (s *Service) Permits(caller, action, scope string) bool {
	return s.permit(caller, action, scope) == nil
}
