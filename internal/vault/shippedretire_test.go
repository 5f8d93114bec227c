package vault_test

import (
	"slices"
	"testing"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/vault"
)

// retiring is the shipped rights with those that a retire rule and keyd enable need besides.
func retiring(t *testing.T) []access {
	t.Helper()
	var role struct{ DataActions []string }
	var hsmRole struct {
		DataActions []string `json:"dataActions"`
	}
	var policy struct{ Permissions struct{ Keys []string } }
	load(t, "key-vault-retire-role.json", &role)
	load(t, "managed-hsm-retire-role.json", &hsmRole)
	load(t, "key-vault-retire-access-policy.json", &policy)
	all := shipped(t)
	all[0].grants = slices.Concat(all[0].grants, role.DataActions)
	all[1].grants = slices.Concat(all[1].grants, hsmRole.DataActions)
	all[2].grants = policy.Permissions.Keys
	return all
}

func TestTheRetireRightsAreTheShippedOnesAndTheUpdateOfKeys(t *testing.T) {
	for i, a := range retiring(t) {
		base := shipped(t)[i]
		t.Run(a.file, func(t *testing.T) {
			t.Parallel()
			if len(a.grants) != len(base.grants)+1 || !slices.Equal(a.grants[:len(base.grants)], base.grants) {
				t.Errorf("they grant %v, and those that do not retire %v", a.grants, base.grants)
			}
			for _, r := range []vault.Right{vault.MayDelete, vault.MayPurge} {
				if may, err := a.client(t, a.grants).May(t.Context(), r); err != nil || may {
					t.Errorf("%s: %v, %v", r, may, err)
				}
			}
		})
	}
}

func TestWithTheRetireRightsAVersionIsDisabledAndEnabledAgain(t *testing.T) {
	for i, a := range retiring(t) {
		base := shipped(t)[i]
		t.Run(a.file, func(t *testing.T) {
			t.Parallel()
			for name, c := range map[string]*vault.Client{
				"with": a.client(t, a.grants), "without": base.client(t, base.grants),
			} {
				kek, err := c.CreateKEK(t.Context(), "", nil)
				if err != nil {
					t.Fatal(err)
				}
				v, err := c.Import(t.Context(), request(t, kek, material()))
				if err != nil {
					t.Fatal(err)
				}
				off, on := c.Disable(t.Context(), keyName, v.ID), c.Enable(t.Context(), keyName, v.ID)
				if name == "with" && (off != nil || on != nil) {
					t.Errorf("with them: %v, %v", off, on)
				}
				if name == "without" && (key.ClassOf(off) != key.Refused || key.ClassOf(on) != key.Refused) {
					t.Errorf("without them: %v, %v", off, on)
				}
			}
		})
	}
}
