// Package azure_test tries the shipped roles on keyd's own client: everything that
// keyd does works with them, nothing else does, and nothing in them is more than
// keyd needs.
package azure_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/keyd-project/keyd/internal/byok"
	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/vault"
)

const (
	keyVault   = "contoso-weu.vault.azure.net"
	managedHSM = "contoso.managedhsm.azure.net"
	name       = "sa-cmk-key"
)

// access is one shipped file: what it grants, and how a vault is set up with a part
// of that.
type access struct {
	file   string
	kind   key.VaultKind
	grants []string
	setUp  func(identity string, grants []string) emulator.VaultConfig
}

func shipped(t *testing.T) []access {
	t.Helper()
	var role struct{ DataActions []string }
	var hsmRole struct {
		DataActions      []string `json:"dataActions"`
		AssignableScopes []string `json:"assignableScopes"`
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
	if !slices.Equal(hsmRole.AssignableScopes, []string{"/"}) {
		t.Errorf("a Managed HSM's role is defined at /, not at %v", hsmRole.AssignableScopes)
	}
	byRole := func(host string, profile emulator.Profile, prefix string) func(string, []string) emulator.VaultConfig {
		return func(identity string, grants []string) emulator.VaultConfig {
			var actions []string
			for _, g := range grants {
				action, ok := strings.CutPrefix(g, prefix)
				if !ok {
					t.Errorf("%s does not begin with %s", g, prefix)
				}
				actions = append(actions, action)
			}
			return emulator.VaultConfig{Host: host, Profile: profile, Access: emulator.RoleBased,
				RoleDefinitions: []emulator.RoleDefinition{{Role: "keyd", DataActions: actions}},
				Roles:           []emulator.RoleAssignment{{Identity: identity, Role: "keyd"}}}
		}
	}
	return []access{
		{"key-vault-role.json", key.KeyVault, role.DataActions, byRole(keyVault, emulator.KeyVaultPremium, "Microsoft.KeyVault/vaults/")},
		{"managed-hsm-role.json", key.ManagedHSM, hsmRole.DataActions, byRole(managedHSM, emulator.ManagedHSM, "Microsoft.KeyVault/managedHsm/")},
		{"key-vault-access-policy.json", key.KeyVault, policy.Permissions.Keys, func(identity string, grants []string) emulator.VaultConfig {
			return emulator.VaultConfig{Host: keyVault, Profile: emulator.KeyVaultPremium, Access: emulator.PolicyBased,
				Policies: []emulator.AccessPolicy{{Identity: identity, Permissions: grants}}}
		}},
	}
}

// load reads a JSON file; an unknown field is no error, one of the wrong form is.
func load(t *testing.T, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// client is keyd's own, in a vault that grants only what is given.
func client(t *testing.T, a access, grants []string) *vault.Client {
	t.Helper()
	identity := rand.Text()
	cfg := a.setUp(identity, grants)
	e, err := emulator.Start(emulator.Options{Vaults: []emulator.VaultConfig{cfg}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	cred, err := vault.NewCredential(vault.CredentialConfig{Kind: vault.ManagedIdentity, ClientID: identity}, vault.HTTPClient(e.Transport()))
	if err != nil {
		t.Fatal(err)
	}
	c, err := vault.New(vault.Config{Vault: key.Vault{Name: "v", URL: "https://" + cfg.Host, Kind: a.kind}, KEKName: "keyd-kek", CreateKEK: true, KEKBits: 2048},
		cred, vault.HTTPClient(e.Transport()), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// everything is each call that keyd makes for a key that is wrapped with, rotated
// and never retired. The error names those that failed.
func everything(t *testing.T, c *vault.Client) error {
	t.Helper()
	ctx := t.Context()
	var failed []error
	try := func(what string, err error) {
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", what, err))
		}
	}
	kek, err := c.CreateKEK(ctx)
	try("make the KEK", err)
	if err != nil {
		return errors.Join(failed...)
	}
	v, err := c.Import(ctx, request(t, kek))
	try("import", err)
	if err != nil {
		return errors.Join(failed...)
	}
	_, err = c.Versions(ctx, name)
	try("list", err)
	_, err = c.Newest(ctx, name)
	try("get the newest", err)
	_, err = c.Get(ctx, name, v.ID)
	try("get a version", err)
	_, err = c.Deleted(ctx, "another")
	try("look for a deleted key", err)
	_, err = c.NativeRotation(ctx, name)
	try("get the rotation policy", err)
	wrapped, err := c.Wrap(ctx, name, v.ID, []byte("secret"))
	try("wrap", err)
	if err == nil {
		opened, err := c.Unwrap(ctx, name, v.ID, wrapped)
		try("unwrap", err)
		if err == nil && !bytes.Equal(opened, []byte("secret")) {
			t.Errorf("unwrapped %q", opened)
		}
	}
	return errors.Join(failed...)
}

// request wraps a key of its own as an HSM would.
func request(t *testing.T, kek key.KEK) key.ImportRequest {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	aesKey := make([]byte, 32)
	rand.Read(aesKey)
	sealedKey, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, kek.Public, aesKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	kwp, err := subtle.NewKWP(aesKey)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := kwp.Wrap(der)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := byok.Encode(kek.Kid, slices.Concat(sealedKey, sealed), "test")
	if err != nil {
		t.Fatal(err)
	}
	return key.ImportRequest{Key: name, Blob: blob, Operations: []key.Operation{key.WrapKey, key.UnwrapKey}, Tags: map[string]string{key.TagInstance: "test"}}
}

func TestWithTheShippedRightsEverythingThatKeydDoesWorks(t *testing.T) {
	for _, a := range shipped(t) {
		t.Run(a.file, func(t *testing.T) {
			t.Parallel()
			if err := everything(t, client(t, a, a.grants)); err != nil {
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
				if everything(t, client(t, a, slices.Delete(slices.Clone(a.grants), i, i+1))) == nil {
					t.Errorf("keyd does not need %s", grant)
				}
			})
		}
	}
}

func TestTheShippedRightsAllowNothingElse(t *testing.T) {
	needed := []vault.Right{vault.MayGet, vault.MayList, vault.MayCreate, vault.MayImport, vault.MayWrap, vault.MayUnwrap, vault.MaySeeDeleted, vault.MayReadRotation}
	other := []vault.Right{vault.MayUpdate, vault.MayEncrypt, vault.MayDecrypt, vault.MaySign, vault.MayDelete, vault.MayPurge}
	for _, a := range shipped(t) {
		t.Run(a.file, func(t *testing.T) {
			t.Parallel()
			c := client(t, a, a.grants)
			for _, r := range slices.Concat(needed, other) {
				if may, err := c.May(t.Context(), r); err != nil || may != slices.Contains(needed, r) {
					t.Errorf("%s: %v, %v", r, may, err)
				}
			}
			if err := c.Recover(t.Context(), "another"); key.ReasonOf(err) != key.ForbiddenByRBAC && key.ReasonOf(err) != key.ForbiddenByPolicy {
				t.Errorf("recover: %v", err)
			}
		})
	}
}
