package emulator_test

import (
	"crypto/rand"
	"slices"
	"testing"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/emulator/arm"
)

// actions is what the roles of a caller let it do at a scope.
func (m manager) actions(scope string) (all []string) {
	m.t.Helper()
	for _, p := range m.list(scope+"/providers/Microsoft.Authorization/permissions", "") {
		for _, a := range p["actions"].([]any) {
			all = append(all, a.(string))
		}
	}
	return all
}

func TestPermissionsAreThoseOfTheCallersRoles(t *testing.T) {
	const scope = "/subscriptions/00000000-0000-4000-8000-000000000000"
	owner := newManager(t, start(t, emulator.Options{}), rand.Text())
	if got := owner.actions(scope); !slices.Equal(got, []string{"*"}) {
		t.Errorf("without roles: %q", got)
	}
	s := newEstate(t, emulator.Options{ResourceRoles: true})
	id := rand.Text()
	reader := newManager(t, s.Emulator, id)
	path := scope + "/providers/Microsoft.Authorization/permissions"
	if status, text := reader.do("GET", path, ""); status != 403 {
		t.Errorf("without a role: %d %s", status, text)
	}
	const below = scope + "/resourceGroups/rg"
	must(t, s.Consumers().Assign(arm.RoleAssignment{Principal: id, Role: "Reader", Scope: below}))
	if got := reader.actions(below); !slices.Equal(got, []string{"*/read"}) {
		t.Errorf("in the resource group: %q", got)
	}
	if status, _ := reader.do("GET", path, ""); status != 403 {
		t.Errorf("above the resource group: %d", status)
	}
}
