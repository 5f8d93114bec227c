package emulator

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// localRolePath is how a Managed HSM's roles are asked for: SCOPE/providers/Microsoft.Authorization/….
var localRolePath = regexp.MustCompile(
	`(?i)^/*(|keys|keys/[0-9a-z-]+)/*providers/microsoft\.authorization/(roleassignments|roledefinitions)/?$`)

func localRoleTarget(method, path string) (target, bool) {
	m := localRolePath.FindStringSubmatch(path)
	if m == nil || method != http.MethodGet {
		return target{}, false
	}
	return target{operation: strings.ToLower(m[2]), scope: "/" + m[1]}, true
}

// hsmRoles are a Managed HSM's built-in roles, by their GUIDs in every HSM.
var hsmRoles = map[Role]string{
	Administrator:               "a290e904-7015-4bba-90c8-60543313cdb4",
	CryptoOfficer:               "515eb02d-2335-4d2d-92f2-b1cbdf9c3778",
	CryptoUser:                  "21dbd100-6940-42c2-9190-5d6cb909625b",
	CryptoServiceEncryptionUser: "33413926-3206-4cdd-b39a-83574fe37a17",
}

const hsmAuthorization = "Microsoft.KeyVault/providers/Microsoft.Authorization/"

func hsmRoleID(r Role) string {
	if id, ok := hsmRoles[r]; ok {
		return hsmAuthorization + "roleDefinitions/" + id
	}
	return hsmAuthorization + "roleDefinitions/" + RoleAssignment{Role: r}.id()
}

type localRoleList struct {
	Value []any `json:"value"`
}

var principalFilter = regexp.MustCompile(`(?i)principalId eq '([^']*)'`)

// localRoles are the role assignments of a Managed HSM at a scope, above it and below; with atScope() not below.
func (v *Vault) localRoles(scope, filter string) (any, error) {
	if v.config.Profile != ManagedHSM {
		return nil, noLocalRoles()
	}
	principal := principalFilter.FindStringSubmatch(filter)
	here := RoleAssignment{Scope: scope}
	list := localRoleList{Value: []any{}}
	for _, a := range v.assigned() {
		below := here.covers(a.Scope) && !strings.Contains(strings.ToLower(filter), "atscope()")
		if !a.covers(scope) && !below || principal != nil && !strings.EqualFold(principal[1], a.Identity) {
			continue
		}
		list.Value = append(list.Value, map[string]any{
			"id":   strings.TrimSuffix(a.Scope, "/") + "/providers/Microsoft.Authorization/roleAssignments/" + a.id(),
			"name": a.id(), "type": "Microsoft.Authorization/roleAssignments",
			"properties": map[string]any{"scope": a.Scope, "principalId": a.Identity,
				"roleDefinitionId": hsmRoleID(a.Role)},
		})
	}
	return list, nil
}

// localRoleNames are a Managed HSM's role definitions, with their data actions.
func (v *Vault) localRoleNames() (any, error) {
	if v.config.Profile != ManagedHSM {
		return nil, noLocalRoles()
	}
	list := localRoleList{Value: []any{}}
	add := func(r Role, name, kind string) {
		id := hsmRoleID(r)
		list.Value = append(list.Value, map[string]any{
			"id": id, "name": id[strings.LastIndex(id, "/")+1:], "type": "Microsoft.Authorization/roleDefinitions",
			"properties": map[string]any{"roleName": name, "type": kind, "assignableScopes": []string{"/"},
				"permissions": []any{map[string]any{"actions": []string{}, "notActions": []string{},
					"dataActions": v.dataActions(r), "notDataActions": []string{}}}},
		})
	}
	for _, r := range []Role{Administrator, CryptoOfficer, CryptoUser, CryptoServiceEncryptionUser} {
		add(r, "Managed HSM "+string(r), "AKVBuiltInRole")
	}
	for _, r := range slices.Sorted(maps.Keys(v.guard.defined)) {
		add(r, string(r), "CustomRole")
	}
	return list, nil
}

// dataActions are a role's, as a Managed HSM names them.
func (v *Vault) dataActions(r Role) []string {
	actions := []string{}
	for operation, right := range rights {
		if v.allows(r, operation) {
			actions = append(actions, "Microsoft.KeyVault/managedHsm/"+right.hsm)
		}
	}
	slices.Sort(actions)
	return slices.Compact(actions)
}

func noLocalRoles() error {
	return &apiError{status: http.StatusNotFound, code: "NotFound",
		message: "A key vault has no roles of its own: ask Azure Resource Manager."}
}
