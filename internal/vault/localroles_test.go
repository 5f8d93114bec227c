package vault_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/vault"
)

// looker is keyd's client of a Managed HSM in which it has these data actions, by the shipped role to look.
func looker(t *testing.T, dataActions []string) (*bench, *vault.Client) {
	t.Helper()
	var actions []string
	for _, a := range dataActions {
		actions = append(actions, strings.TrimPrefix(a, "Microsoft.KeyVault/managedHsm/"))
	}
	b, c := guarded(t, profiles()[1], emulator.VaultConfig{Access: emulator.RoleBased,
		RoleDefinitions: []emulator.RoleDefinition{{Role: "keyd look", DataActions: actions}},
		Roles:           []emulator.RoleAssignment{{Role: "keyd look"}}})
	for _, scope := range []string{"/keys/" + keyName, "/keys/other"} {
		if err := b.inside.Assign(emulator.RoleAssignment{Identity: "someone at " + scope,
			Role: emulator.CryptoServiceEncryptionUser, Scope: scope}); err != nil {
			t.Fatal(err)
		}
	}
	return b, c
}

func lookRole(t *testing.T) []string {
	t.Helper()
	var role struct {
		DataActions []string `json:"dataActions"`
	}
	load(t, "managed-hsm-look-role.json", &role)
	return role.DataActions
}

func TestAManagedHSMsOwnRolesAreListedWithWhatTheyAllow(t *testing.T) {
	const unwrap = "Microsoft.KeyVault/managedHsm/keys/unwrap/action"
	_, c := looker(t, lookRole(t))
	all, err := c.LocalRoles(t.Context(), keyName)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(r vault.LocalRole) bool { return r.Principal == "someone at /keys/"+keyName })
	if len(all) != 2 || i < 0 { // keyd's own is the other
		t.Fatalf("%+v", all)
	}
	r := all[i]
	if r.Role != "Managed HSM Crypto Service Encryption User" || r.Scope != "/keys/"+keyName ||
		len(r.Permissions) != 1 || !slices.Contains(r.Permissions[0].DataActions, unwrap) {
		t.Errorf("%+v", r)
	}
}

func TestWithoutAnyActionOfTheRoleToLookTheRolesAreNotSeen(t *testing.T) {
	actions := lookRole(t)
	for i, a := range actions {
		_, c := looker(t, slices.Delete(slices.Clone(actions), i, i+1))
		_, err := c.LocalRoles(t.Context(), keyName)
		var e *vault.Error
		if !errors.As(err, &e) || e.Status != 403 || !strings.Contains(e.Hint, `"keyd look"`) {
			t.Errorf("without %s: %v", a, err)
		}
	}
}

func TestTheRoleToLookAllowsNoUseOfAKey(t *testing.T) {
	_, c := looker(t, lookRole(t))
	for _, r := range []vault.Right{vault.MayGet, vault.MayList, vault.MayWrap, vault.MayUnwrap, vault.MayCreate,
		vault.MayUpdate, vault.MayDelete} {
		if may, err := c.May(t.Context(), r); err != nil || may {
			t.Errorf("%s: %v, %v", r, may, err)
		}
	}
}
