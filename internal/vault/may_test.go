package vault_test

import (
	"crypto/rand"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/vault"
)

func everyRight() []vault.Right {
	return []vault.Right{
		vault.MayGet, vault.MayList, vault.MayCreate, vault.MayImport, vault.MayUpdate, vault.MayWrap,
		vault.MayUnwrap, vault.MayEncrypt, vault.MayDecrypt, vault.MaySign, vault.MaySeeDeleted,
		vault.MayReadRotation, vault.MayDelete, vault.MayPurge, vault.MayBackup, vault.MayRelease, vault.MayRecover,
		vault.MayRotate, vault.MaySetRotation,
	}
}

// guarded returns a bench whose vault has the given access rules.
func guarded(t *testing.T, v key.Vault, cfg emulator.VaultConfig) (*bench, *vault.Client) {
	t.Helper()
	cfg.Host = strings.TrimPrefix(v.URL, "https://")
	cfg.Profile = emulator.KeyVaultPremium
	if v.Kind == key.ManagedHSM {
		cfg.Profile = emulator.ManagedHSM
	}
	id := rand.Text()
	for i := range cfg.Roles {
		cfg.Roles[i].Identity = id
	}
	for i := range cfg.Policies {
		cfg.Policies[i].Identity = id
	}
	e, err := emulator.Start(emulator.Options{Vaults: []emulator.VaultConfig{cfg}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	cred, err := vault.NewCredential(
		vault.CredentialConfig{Kind: vault.ManagedIdentity, ClientID: id}, vault.HTTPClient(e.Transport()),
	)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{Emulator: e, vault: v, inside: e.Vault(cfg.Host), cred: cred}
	return b, b.client(t, func(cfg *vault.Config) { cfg.Attested = v.Kind == key.ManagedHSM })
}

// may returns the rights that the identity has.
func may(t *testing.T, c *vault.Client) (has []vault.Right) {
	t.Helper()
	for _, r := range everyRight() {
		yes, err := c.May(t.Context(), r)
		if err != nil {
			t.Errorf("%s: %v", r, err)
		}
		if yes {
			has = append(has, r)
		}
	}
	return has
}

func TestRightsAreFoundByTryingThem(t *testing.T) {
	t.Parallel()
	kv, mhsm := profiles()[0], profiles()[1]
	role := func(r emulator.Role) emulator.VaultConfig {
		return emulator.VaultConfig{Access: emulator.RoleBased, Roles: []emulator.RoleAssignment{{Role: r}}}
	}
	without := func(rs ...vault.Right) []vault.Right {
		return slices.DeleteFunc(everyRight(), func(r vault.Right) bool { return slices.Contains(rs, r) })
	}
	for name, c := range map[string]struct {
		vault key.Vault
		cfg   emulator.VaultConfig
		want  []vault.Right
	}{
		"anyone":      {kv, emulator.VaultConfig{}, everyRight()},
		"nobody":      {kv, emulator.VaultConfig{Access: emulator.RoleBased}, nil},
		"nobody, HSM": {mhsm, emulator.VaultConfig{Access: emulator.RoleBased}, nil},
		"officer":     {kv, role(emulator.CryptoOfficer), everyRight()},
		"officer, HSM": {mhsm, role(emulator.CryptoOfficer), []vault.Right{vault.MaySeeDeleted, vault.MayPurge,
			vault.MayRecover}},
		"user": {
			kv, role(emulator.CryptoUser),
			without(vault.MayCreate, vault.MayImport, vault.MayReadRotation, vault.MayDelete, vault.MayPurge,
				vault.MayRelease, vault.MayRecover, vault.MayRotate, vault.MaySetRotation),
		},
		"user, HSM": {mhsm, role(emulator.CryptoUser), without(vault.MayPurge, vault.MayRelease,
			vault.MayRecover)},
		"encryption user": {
			kv, role(emulator.CryptoServiceEncryptionUser),
			[]vault.Right{vault.MayGet, vault.MayList, vault.MayWrap, vault.MayUnwrap},
		},
		"access policy": {
			kv,
			emulator.VaultConfig{
				Access:   emulator.PolicyBased,
				Policies: []emulator.AccessPolicy{{Permissions: []string{"get", "unwrapKey", "purge"}}},
			},
			[]vault.Right{vault.MayGet, vault.MayUnwrap, vault.MaySeeDeleted, vault.MayPurge},
		},
		"no access policy": {kv, emulator.VaultConfig{Access: emulator.PolicyBased}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, client := guarded(t, c.vault, c.cfg)
			if err := addForeign(b); err != nil {
				t.Fatal(err)
			}
			if got := may(t, client); !slices.Equal(got, c.want) {
				t.Errorf("may %v, want %v", got, c.want)
			}
			b.wantUntouched(t)
		})
	}
}

func addForeign(b *bench) error {
	_, err := b.inside.AddForeignVersion(keyName)
	return err
}

// wantUntouched requires that the only key exists and is enabled, and that the vault refused every call that named an
// existing key.
func (b *bench) wantUntouched(t *testing.T) {
	t.Helper()
	if keys := b.inside.Keys(); !slices.Equal(keys, []string{keyName}) {
		t.Errorf("the vault holds %v", keys)
	}
	if v := b.inside.Versions(keyName); len(v) != 1 || !v[0].Enabled {
		t.Errorf("versions %+v", v)
	}
	for _, r := range b.Requests() {
		if strings.Contains(r.Path, "/"+keyName) {
			t.Errorf("%s %s touched a key that is there", r.Method, r.Path)
		}
		if r.Status == http.StatusOK && r.Operation != "token" && r.Operation != "versions" {
			t.Errorf("%s %s was done", r.Method, r.Path)
		}
	}
}

func TestAFirewallIsNotMistakenForAMissingRole(t *testing.T) {
	t.Parallel()
	_, c := guarded(t, profiles()[0], emulator.VaultConfig{Firewall: &emulator.Firewall{}})
	_, err := c.May(t.Context(), vault.MayGet)
	if key.ReasonOf(err) != key.ForbiddenByFirewall {
		t.Errorf("%v", err)
	}
}

func TestTheIdentityIsNamedAndItsTokenIsNot(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, b *bench) {
		who, err := b.client(t).Identity(t.Context())
		if err != nil || who.ClientID == "" || who.ObjectID == "" || who.Tenant == "" {
			t.Fatalf("%+v, %v", who, err)
		}
		if !strings.Contains(who.String(), "client "+who.ClientID) || strings.Contains(who.String(), "eyJ") {
			t.Errorf("%s", who)
		}
	})
}

// If a vault does something that should be impossible, it has changed something, and keyd must not report that as a
// right.
func TestAProbeThatChangedSomethingIsReported(t *testing.T) {
	t.Parallel()
	c := newClient(t, func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("Authorization") == "" {
			resp := answer(r, http.StatusUnauthorized, "")
			resp.Header.Set(
				"WWW-Authenticate",
				`Bearer authorization="https://login.microsoftonline.com/t", resource="https://vault.azure.net"`,
			)
			return resp, nil
		}
		if r.Method == http.MethodDelete && strings.Contains(r.URL.Path, "deletedkeys") {
			return answer(r, http.StatusNoContent, ""), nil
		}
		return answer(r, http.StatusOK, "{}"), nil
	})
	for _, r := range []vault.Right{
		vault.MayCreate, vault.MayImport, vault.MayUpdate, vault.MayDelete, vault.MayPurge,
	} {
		if yes, err := c.May(t.Context(), r); yes || err == nil || !strings.Contains(err.Error(), "keyd-check-") {
			t.Errorf("%s: %v, %v; want the name of what the vault may have made", r, yes, err)
		}
	}
}
