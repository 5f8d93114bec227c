package vault_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/vault"
)

// The rights in deploy/azure, tried on keyd's own client: everything that keyd does
// works with them, nothing else does, and nothing in them is more than keyd needs.

// access is one shipped file: what it grants, and how a vault is set up with a part
// of that.
type access struct {
	file   string
	vault  key.Vault
	grants []string
	setUp  func(grants []string) emulator.VaultConfig
}

func shipped(t *testing.T) []access {
	t.Helper()
	var role struct{ DataActions []string }
	var hsmRole struct {
		DataActions []string `json:"dataActions"`
	}
	var policy struct {
		Permissions struct{ Keys, Secrets, Certificates []string }
	}
	load(t, "key-vault-role.json", &role)
	load(t, "managed-hsm-role.json", &hsmRole)
	load(t, "key-vault-access-policy.json", &policy)
	if len(policy.Permissions.Secrets)+len(policy.Permissions.Certificates) > 0 {
		t.Error("the access policy grants more than keys")
	}
	byRole := func(prefix string) func([]string) emulator.VaultConfig {
		return func(grants []string) emulator.VaultConfig {
			var actions []string
			for _, g := range grants {
				action, ok := strings.CutPrefix(g, prefix)
				if !ok {
					t.Errorf("%s does not begin with %s", g, prefix)
				}
				actions = append(actions, action)
			}
			return emulator.VaultConfig{Access: emulator.RoleBased,
				RoleDefinitions: []emulator.RoleDefinition{{Role: "keyd", DataActions: actions}},
				Roles:           []emulator.RoleAssignment{{Role: "keyd"}}}
		}
	}
	keyVault, managedHSM := profiles()[0], profiles()[1]
	return []access{
		{"key-vault-role.json", keyVault, role.DataActions, byRole("Microsoft.KeyVault/vaults/")},
		{"managed-hsm-role.json", managedHSM, hsmRole.DataActions, byRole("Microsoft.KeyVault/managedHsm/")},
		{
			"key-vault-access-policy.json",
			keyVault,
			policy.Permissions.Keys,
			func(grants []string) emulator.VaultConfig {
				return emulator.VaultConfig{
					Access:   emulator.PolicyBased,
					Policies: []emulator.AccessPolicy{{Permissions: grants}},
				}
			},
		},
	}
}

// client is keyd's own, in a vault that grants only the given rights.
func (a access) client(t *testing.T, grants []string) *vault.Client {
	t.Helper()
	_, c := guarded(t, a.vault, a.setUp(grants))
	return c
}

// load reads a JSON file. It accepts an unknown field, and fails on one of the wrong type.
func load(t *testing.T, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../deploy/azure", path))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// everything makes each call that keyd needs for a key that is wrapped with, rotated and never retired. The error
// names the calls that failed.
func everything(t *testing.T, c *vault.Client) error {
	t.Helper()
	ctx := t.Context()
	var failed []error
	try := func(what string, err error) {
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", what, err))
		}
	}
	kek, err := c.CreateKEK(ctx, "", nil)
	try("make the KEK", err)
	if err != nil {
		return errors.Join(failed...)
	}
	v, err := c.Import(ctx, request(t, kek, material()))
	try("import", err)
	if err != nil {
		return errors.Join(failed...)
	}
	_, err = c.Versions(ctx, keyName)
	try("list", err)
	_, err = c.Attestation(ctx, keyName, v.ID)
	try("attest", err)
	_, err = c.Sweep(ctx, 1)
	try("list the keys", err)
	_, err = c.KEKVersions(ctx)
	try("list the KEK's versions", err)
	_, _, err = c.KEK(ctx, "")
	try("get the KEK", err)
	_, err = c.PurgeProtected(ctx, keyName)
	try("see purge protection", err)
	_, err = c.Newest(ctx, keyName)
	try("get the newest", err)
	_, err = c.Get(ctx, keyName, v.ID)
	try("get a version", err)
	_, err = c.Deleted(ctx, "another")
	try("look for a deleted key", err)
	_, err = c.NativeRotation(ctx, keyName)
	try("get the rotation policy", err)
	wrapped, err := c.Wrap(ctx, keyName, v.ID, []byte("secret"))
	try("wrap", err)
	if err == nil {
		opened, err := c.Unwrap(ctx, keyName, v.ID, wrapped)
		try("unwrap", err)
		if err == nil && !bytes.Equal(opened, []byte("secret")) {
			t.Errorf("unwrapped %q", opened)
		}
	}
	return errors.Join(failed...)
}

func TestWithTheShippedRightsEverythingThatKeydDoesWorks(t *testing.T) {
	for _, a := range shipped(t) {
		t.Run(a.file, func(t *testing.T) {
			t.Parallel()
			if err := everything(t, a.client(t, a.grants)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWithoutAnyOneOfTheShippedRightsSomethingFails(t *testing.T) {
	for _, a := range shipped(t) {
		for i, grant := range a.grants {
			t.Run(a.file+" without "+grant, func(t *testing.T) {
				t.Parallel()
				if everything(t, a.client(t, slices.Delete(slices.Clone(a.grants), i, i+1))) == nil {
					t.Errorf("keyd does not need %s", grant)
				}
			})
		}
	}
}

func TestTheShippedRightsAllowNothingElse(t *testing.T) {
	needed := []vault.Right{
		vault.MayGet,
		vault.MayList,
		vault.MayCreate,
		vault.MayImport,
		vault.MayWrap,
		vault.MayUnwrap,
		vault.MaySeeDeleted,
		vault.MayReadRotation,
	}
	other := []vault.Right{
		vault.MayUpdate,
		vault.MayEncrypt,
		vault.MayDecrypt,
		vault.MaySign,
		vault.MayDelete,
		vault.MayPurge,
		vault.MayBackup,
		vault.MayRelease,
		vault.MayRecover,
		vault.MayRotate,
		vault.MaySetRotation,
	}
	for _, a := range shipped(t) {
		t.Run(a.file, func(t *testing.T) {
			t.Parallel()
			c := a.client(t, a.grants)
			for _, r := range slices.Concat(needed, other) {
				if may, err := c.May(t.Context(), r); err != nil || may != slices.Contains(needed, r) {
					t.Errorf("%s: %v, %v", r, may, err)
				}
			}
		})
	}
}
