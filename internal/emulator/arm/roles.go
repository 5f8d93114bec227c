package arm

import (
	"slices"
	"strings"
)

const keyVault = "Microsoft.KeyVault/vaults/"

// builtIn are roles that every tenant has, by the GUIDs that they have in all of them.
var builtIn = []struct {
	guid string
	Role
}{
	{"8e3af657-a8ff-443c-a75c-2fe8c4bcb635", Role{Name: "Owner", Actions: []string{"*"}}},
	{"b24988ac-6180-42a0-ab88-20f7382dd24c", Role{Name: "Contributor", Actions: []string{"*"},
		NotActions: []string{"Microsoft.Authorization/*/Delete", "Microsoft.Authorization/*/Write"}}},
	{"acdd72a7-3385-48ef-bd42-f606fba81ae7", Role{Name: "Reader", Actions: []string{"*/read"}}},
	{"73c42c96-874c-492b-b04d-ab87d138a893", Role{Name: "Log Analytics Reader", Actions: []string{"*/read"}}},
	{"00482a5a-887f-4fb3-b363-3b7fe8e74483", Role{Name: "Key Vault Administrator",
		DataActions: []string{keyVault + "*"}}},
	{"14b46e9e-c2b7-41b4-b07b-48a6ebf60603", Role{Name: "Key Vault Crypto Officer",
		DataActions: []string{keyVault + "keys/*", keyVault + "keyrotationpolicies/*"}}},
	{"12338af0-0e69-4776-bea7-57ae8d297424", Role{Name: "Key Vault Crypto User",
		DataActions: []string{keyVault + "keys/read", keyVault + "keys/update/action", keyVault + "keys/backup/action",
			keyVault + "keys/encrypt/action", keyVault + "keys/decrypt/action", keyVault + "keys/wrap/action",
			keyVault + "keys/unwrap/action", keyVault + "keys/sign/action", keyVault + "keys/verify/action"}}},
	{"e147488a-f6f5-4113-8e2d-b22465e65bf6", Role{Name: "Key Vault Crypto Service Encryption User",
		DataActions: []string{keyVault + "keys/read", keyVault + "keys/wrap/action",
			keyVault + "keys/unwrap/action"}}},
}

func roleNames() (names []string) {
	for _, r := range builtIn {
		names = append(names, r.Name)
	}
	return names
}

func (s *Service) role(name string) *Role {
	s.directory.mu.RLock()
	defer s.directory.mu.RUnlock()
	return s.directory.role(name)
}

// role is called with the lock held.
func (d *directory) role(name string) *Role {
	for i := range builtIn {
		if strings.EqualFold(builtIn[i].Name, name) {
			return &builtIn[i].Role
		}
	}
	if i := slices.IndexFunc(d.roles, func(r Role) bool { return strings.EqualFold(r.Name, name) }); i >= 0 {
		return &d.roles[i]
	}
	return nil
}

// roleGUID is a role definition's name.
func roleGUID(name string) string {
	for _, r := range builtIn {
		if strings.EqualFold(r.Name, name) {
			return r.guid
		}
	}
	return guidOf("role " + strings.ToLower(name))
}

func roleDefinitionID(name string) string {
	return "/providers/Microsoft.Authorization/roleDefinitions/" + roleGUID(name)
}

// definitions are all roles as Resource Manager shows them.
func (s *Service) definitions() (all []document) {
	s.directory.mu.RLock()
	defer s.directory.mu.RUnlock()
	for _, r := range builtIn {
		all = append(all, r.shown("BuiltInRole"))
	}
	for _, r := range s.directory.roles {
		all = append(all, r.shown("CustomRole"))
	}
	return all
}

func (r Role) shown(kind string) document {
	list := func(actions []string) []string { return append([]string{}, actions...) }
	return document{
		"id": roleDefinitionID(r.Name), "name": roleGUID(r.Name), "type": "Microsoft.Authorization/roleDefinitions",
		"properties": document{
			"roleName": r.Name, "type": kind, "description": "", "assignableScopes": []string{"/"},
			"permissions": []document{{
				"actions": list(r.Actions), "notActions": list(r.NotActions),
				"dataActions": list(r.DataActions), "notDataActions": list(r.NotDataActions),
			}},
		},
	}
}
