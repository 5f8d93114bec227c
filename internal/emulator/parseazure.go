package emulator

import (
	"fmt"
	"strings"

	"github.com/keyd-project/keyd/internal/emulator/arm"
)

// ParseAzureRole reads PRINCIPAL:ROLE:SCOPE, as in "00aa…:Reader:/subscriptions/…".
func ParseAzureRole(s string) (arm.RoleAssignment, error) {
	parts := strings.SplitN(s, ":", 3)
	if len(parts) != 3 {
		return arm.RoleAssignment{}, fmt.Errorf("role %q: write PRINCIPAL:ROLE:SCOPE", s)
	}
	return arm.RoleAssignment{Principal: parts[0], Role: parts[1], Scope: parts[2]}, nil
}

// ParseRoleDefinition reads NAME:ACTION,…[:DATAACTION,…].
func ParseRoleDefinition(s string) (arm.Role, error) {
	parts := strings.SplitN(s+":", ":", 3)
	if len(parts) != 3 || parts[0] == "" {
		return arm.Role{}, fmt.Errorf("role definition %q: write NAME:ACTION,ACTION:DATAACTION", s)
	}
	return arm.Role{Name: parts[0], Actions: split(parts[1]),
		DataActions: split(strings.TrimSuffix(parts[2], ":"))}, nil
}

// ParseDenyAssignment reads NAME:PRINCIPAL:SCOPE:DATAACTION,…; no principal is everybody, and no action ends the
// assignment.
func ParseDenyAssignment(s string) (arm.DenyAssignment, error) {
	parts := strings.SplitN(s, ":", 4)
	if len(parts) != 4 || parts[0] == "" {
		return arm.DenyAssignment{}, fmt.Errorf("deny assignment %q: write NAME:PRINCIPAL:SCOPE:DATAACTION,…", s)
	}
	return arm.DenyAssignment{Name: parts[0], Principal: parts[1], Scope: parts[2], DataActions: split(parts[3])}, nil
}

func split(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}
