package emulator_test

import (
	"crypto/rand"
	"crypto/sha256"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/keyd-project/keyd/internal/emulator"
)

func startVaults(t *testing.T, opts emulator.Options, vaults ...emulator.VaultConfig) *emulator.Emulator {
	t.Helper()
	opts.Vaults = vaults
	e, err := emulator.Start(opts)
	must(t, err)
	t.Cleanup(func() { must(t, e.Close()) })
	return e
}

// clientAs makes a client that signs in as one identity.
func clientAs(t *testing.T, e *emulator.Emulator, host, clientID string) *azkeys.Client {
	t.Helper()
	return clientWith(t, e, host, managedIdentityOf(t, e, clientID))
}

// operations are one call of each kind on the key "k". The last one deletes the key.
func operations(c *azkeys.Client, t *testing.T) []operation {
	ctx := t.Context()
	digest := sha256.Sum256(nil)
	rs256 := azkeys.SignatureAlgorithmRS256
	value := parameters(azkeys.EncryptionAlgorithmRSAOAEP256, []byte("x"))
	return []operation{
		{"get", func() error { _, err := c.GetKey(ctx, "k", "", nil); return err }},
		{"list", func() error { _, err := c.NewListKeyPropertiesPager(nil).NextPage(ctx); return err }},
		{"versions",
			func() error { _, err := c.NewListKeyPropertiesVersionsPager("k", nil).NextPage(ctx); return err }},
		{"wrap", func() error { _, err := c.WrapKey(ctx, "k", "", value, nil); return err }},
		{"unwrap", func() error { _, err := c.UnwrapKey(ctx, "k", "", value, nil); return err }},
		{"encrypt", func() error { _, err := c.Encrypt(ctx, "k", "", value, nil); return err }},
		{"decrypt", func() error { _, err := c.Decrypt(ctx, "k", "", value, nil); return err }},
		{"sign", func() error {
			_, err := c.Sign(ctx, "k", "", azkeys.SignParameters{Algorithm: &rs256, Value: digest[:]}, nil)
			return err
		}},
		{"verify", func() error {
			_, err := c.Verify(ctx, "k", "",
				azkeys.VerifyParameters{Algorithm: &rs256, Digest: digest[:], Signature: digest[:]}, nil)
			return err
		}},
		{"update", func() error { _, err := c.UpdateKey(ctx, "k", "", azkeys.UpdateKeyParameters{}, nil); return err }},
		{"create", func() error {
			_, err := c.CreateKey(ctx, "k", azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeRSAHSM)}, nil)
			return err
		}},
		{"import", func() error {
			_, err := c.ImportKey(ctx, "k",
				azkeys.ImportKeyParameters{Key: &azkeys.JSONWebKey{Kty: ptr(azkeys.KeyTypeRSAHSM)}}, nil)
			return err
		}},
		{"rotationpolicy", func() error { _, err := c.GetKeyRotationPolicy(ctx, "k", nil); return err }},
		{"setrotationpolicy", func() error {
			_, err := c.UpdateKeyRotationPolicy(ctx, "k", azkeys.KeyRotationPolicy{}, nil)
			return err
		}},
		{"rotate", func() error { _, err := c.RotateKey(ctx, "k", nil); return err }},
		{"listdeleted", func() error { _, err := c.NewListDeletedKeyPropertiesPager(nil).NextPage(ctx); return err }},
		{"getdeleted", func() error { _, err := c.GetDeletedKey(ctx, "k", nil); return err }},
		{"recover", func() error { _, err := c.RecoverDeletedKey(ctx, "k", nil); return err }},
		{"purge", func() error { _, err := c.PurgeDeletedKey(ctx, "k", nil); return err }},
		{"delete", func() error { _, err := c.DeleteKey(ctx, "k", nil); return err }},
	}
}

type operation struct {
	name string
	call func() error
}

// denied reports whether a call was refused for lack of a right, whatever else may be wrong with it.
func denied(t *testing.T, err error) bool {
	t.Helper()
	return err != nil && strings.Contains(err.Error(), "ForbiddenBy")
}

func TestEachRoleAllowsWhatItsServiceDocuments(t *testing.T) {
	reads := []string{"get", "list", "versions"}
	deleted := []string{"listdeleted", "getdeleted"}
	uses := []string{"wrap", "unwrap", "encrypt", "decrypt", "sign", "verify"}
	makes := []string{"create", "import", "update", "rotationpolicy", "setrotationpolicy", "rotate", "delete"}
	all := slices.Concat(reads, deleted, uses, makes, []string{"recover", "purge"})
	for _, test := range []struct {
		host    string
		role    emulator.Role
		allowed []string
	}{
		{premium, emulator.Administrator, all},
		{premium, emulator.CryptoOfficer, all},
		{premium, emulator.CryptoUser, slices.Concat(reads, deleted, uses, []string{"update"})},
		{premium, emulator.CryptoServiceEncryptionUser, append(slices.Clone(reads), "wrap", "unwrap")},
		{managedHSM, emulator.Administrator, nil},
		{managedHSM, emulator.CryptoOfficer, append(slices.Clone(deleted), "recover", "purge")},
		{managedHSM, emulator.CryptoUser, slices.Concat(reads, deleted, uses, makes)},
		{managedHSM, emulator.CryptoServiceEncryptionUser, append(slices.Clone(reads), "wrap", "unwrap")},
	} {
		t.Run(test.host+" "+string(test.role), func(t *testing.T) {
			id := rand.Text()
			profile := emulator.KeyVaultPremium
			if test.host == managedHSM {
				profile = emulator.ManagedHSM
			}
			e := startVaults(t, emulator.Options{}, emulator.VaultConfig{
				Host: test.host, Profile: profile, Access: emulator.RoleBased,
				Roles: []emulator.RoleAssignment{{Identity: id, Role: test.role}},
			})
			foreign(t, e, test.host, "k")
			for _, o := range operations(clientAs(t, e, test.host, id), t) {
				if err := o.call(); denied(t, err) == slices.Contains(test.allowed, o.name) {
					t.Errorf("%s: %v", o.name, err)
				}
			}
		})
	}
}

func TestADenialIsInItsServicesWords(t *testing.T) {
	id := rand.Text()
	outside := &emulator.Firewall{IPRules: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}
	for name, test := range map[string]struct {
		config            emulator.VaultConfig
		code, inner, says string
	}{
		"roles of a vault": {emulator.VaultConfig{Host: premium, Access: emulator.RoleBased}, "Forbidden",
			"ForbiddenByRbac",
			"Action: 'Microsoft.KeyVault/vaults/keys/read'\r\nResource: " +
				"'/subscriptions/00000000-0000-4000-8000-000000000000/resourcegroups/emulator/" +
				"providers/microsoft.keyvault/vaults/contoso-weu/keys/k'"},
		"roles of a Managed HSM": {emulator.VaultConfig{Host: managedHSM, Profile: emulator.ManagedHSM,
			Access: emulator.RoleBased}, "AccessDenied", "ForbiddenByRbac",
			"Not authorized to access Microsoft.KeyVault/managedHsm/keys/read/action on /keys/k (Activity ID: "},
		"access policies": {emulator.VaultConfig{Host: premium, Access: emulator.PolicyBased}, "Forbidden",
			"ForbiddenByPolicy",
			"The user, group or application 'appid=" + id + ";oid=" + id + ";iss=https://sts.windows.net/" +
				emulator.DefaultTenantID + "/' does not have keys get permission on key vault " +
				"'contoso-weu;location=westeurope'."},
		"firewall": {emulator.VaultConfig{Host: premium, Firewall: outside}, "Forbidden", "ForbiddenByFirewall",
			"Client address is not authorized and caller is not a trusted service.\r\nClient address: " +
				"192.0.2.7\r\nCaller: appid=" + id},
	} {
		t.Run(name, func(t *testing.T) {
			e := startVaults(t,
				emulator.Options{Identities: []emulator.Identity{{ClientID: id,
					Address: netip.MustParseAddr("192.0.2.7")}}}, test.config)
			_, err := clientAs(t, e, test.config.Host, id).GetKey(t.Context(), "k", "", nil)
			if got := wantError(t, err, 403, test.code, test.inner); !strings.Contains(got.Message, test.says) {
				t.Errorf("%q does not say %q", got.Message, test.says)
			}
		})
	}
}

func TestAnAccessPolicyAllowsWhatItNames(t *testing.T) {
	id := rand.Text()
	e := startVaults(t, emulator.Options{}, emulator.VaultConfig{
		Host: premium, Access: emulator.PolicyBased,
		Policies: []emulator.AccessPolicy{{Identity: id, Permissions: []string{"get", "unwrapKey"}}},
	})
	foreign(t, e, premium, "k")
	for _, o := range operations(clientAs(t, e, premium, id), t) {
		allowed := slices.Contains([]string{"get", "unwrap", "getdeleted"}, o.name)
		if err := o.call(); denied(t, err) == allowed {
			t.Errorf("%s: %v", o.name, err)
		}
	}
	must(t, e.Vault(premium).SetAccessPolicy(emulator.AccessPolicy{Identity: id}))
	_, err := clientAs(t, e, premium, id).GetKey(t.Context(), "k", "", nil)
	wantError(t, err, 403, "Forbidden", "ForbiddenByPolicy")
}

// rolesReachAsFarAsTheirScopes tests a fact.
func rolesReachAsFarAsTheirScopes(t *testing.T) {
	t.Helper()
	for _, test := range []struct {
		scope             string
		one, other, fresh bool
	}{
		{"/", true, true, true},
		{"/keys", true, true, true},
		{"/keys/one", true, false, false},
	} {
		id := rand.Text()
		e := startVaults(t, emulator.Options{}, emulator.VaultConfig{
			Host: managedHSM, Profile: emulator.ManagedHSM, Access: emulator.RoleBased,
			Roles: []emulator.RoleAssignment{{Identity: id, Role: emulator.CryptoUser, Scope: test.scope}},
		})
		foreign(t, e, managedHSM, "one")
		foreign(t, e, managedHSM, "other")
		c := clientAs(t, e, managedHSM, id)
		get := func(name string) error { _, err := c.GetKey(t.Context(), name, "", nil); return err }
		create := func(name string) error {
			_, err := c.CreateKey(t.Context(), name, azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeECHSM)}, nil)
			return err
		}
		for name, result := range map[string]struct {
			err     error
			allowed bool
		}{
			"get one": {get("One"), test.one}, "get other": {get("other"), test.other},
			"a version of one": {create("one"), test.one}, "a new key": {create("fresh"), test.fresh},
		} {
			if denied(t, result.err) == result.allowed {
				t.Errorf("%s at %s: %v", name, test.scope, result.err)
			}
		}
	}
}

func TestARoleComesAndGoesWithADelay(t *testing.T) {
	clock := newClock()
	id := rand.Text()
	e := startVaults(t, emulator.Options{Now: clock.Now, RoleDelay: 2 * time.Minute},
		emulator.VaultConfig{Host: premium, Access: emulator.RoleBased})
	foreign(t, e, premium, "k")
	c := clientAs(t, e, premium, id)
	role := emulator.RoleAssignment{Identity: id, Role: emulator.CryptoUser}
	look := func(when string, allowed bool) {
		t.Helper()
		if _, err := c.GetKey(t.Context(), "k", "", nil); denied(t, err) == allowed {
			t.Errorf("%s: %v", when, err)
		}
	}
	look("before", false)
	must(t, e.Vault(premium).Assign(role))
	look("just assigned", false)
	clock.advance(2 * time.Minute)
	look("two minutes after", true)
	must(t, e.Vault(premium).Unassign(role))
	look("just taken away", true)
	clock.advance(2 * time.Minute)
	look("gone", false)
	if err := e.Vault(premium).Unassign(role); err == nil {
		t.Error("a role that is not there was taken away")
	}
}

func TestTheFirewallAdmitsAddressesAndTrustedServices(t *testing.T) {
	inside, outside, service := rand.Text(), rand.Text(), rand.Text()
	rules := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	e := startVaults(t, emulator.Options{Identities: []emulator.Identity{
		{ClientID: inside, Address: netip.MustParseAddr("192.0.2.7")},
		{ClientID: service, TrustedService: true},
	}}, emulator.VaultConfig{Host: premium, Firewall: &emulator.Firewall{IPRules: rules, TrustedServices: true}})
	foreign(t, e, premium, "k")
	admitted := func(id string) bool {
		_, err := clientAs(t, e, premium, id).GetKey(t.Context(), "k", "", nil)
		return !denied(t, err)
	}
	if !admitted(inside) || !admitted(service) || admitted(outside) {
		t.Error("the rules do not hold")
	}
	e.Vault(premium).SetFirewall(&emulator.Firewall{IPRules: rules})
	if admitted(service) {
		t.Error("a trusted service came in though none is to")
	}
	e.SetIdentity(emulator.Identity{ClientID: outside, Address: netip.MustParseAddr("192.0.2.8")})
	if !admitted(outside) {
		t.Error("a caller that moved inside is still out")
	}
	e.Vault(premium).SetFirewall(nil)
	if !admitted(service) {
		t.Error("no firewall keeps a caller out")
	}
}

func TestAccessThatCannotWorkIsRefused(t *testing.T) {
	for name, c := range map[string]emulator.VaultConfig{
		"policies of a Managed HSM": {Host: managedHSM, Profile: emulator.ManagedHSM, Access: emulator.PolicyBased},
		"an unknown role":           {Host: premium, Roles: []emulator.RoleAssignment{{Identity: "i", Role: "Reader"}}},
		"an unknown scope": {Host: premium,
			Roles: []emulator.RoleAssignment{{Identity: "i", Role: emulator.CryptoUser, Scope: "/secrets"}}},
		"a role for no one": {Host: premium, Roles: []emulator.RoleAssignment{{Role: emulator.CryptoUser}}},
		"an unknown permission": {Host: premium,
			Policies: []emulator.AccessPolicy{{Identity: "i", Permissions: []string{"everything"}}}},
		"a retention of a day": {Host: premium, RecoverableDays: 1},
	} {
		if e, err := emulator.Start(emulator.Options{Vaults: []emulator.VaultConfig{c}}); err == nil {
			t.Errorf("%s was accepted", name)
			must(t, e.Close())
		}
	}
}

func TestRevokedTokensMeetAClaimsChallengeThatTheClientFollows(t *testing.T) {
	clock := newClock()
	e := start(t, emulator.Options{Now: clock.Now})
	foreign(t, e, premium, "k")
	certificate, key := clientCertificate(t)
	id := rand.Text()
	cred, err := azidentity.NewClientCertificateCredential(emulator.DefaultTenantID, id, certificate, key,
		&azidentity.ClientCertificateCredentialOptions{ClientOptions: clientOptions(e)})
	must(t, err)
	c := clientWith(t, e, premium, cred)
	get := func() error { _, err := c.GetKey(t.Context(), "k", "", nil); return err }
	must(t, get())
	e.RevokeTokens(id)
	before := len(e.Requests())
	must(t, get())
	var got []string
	for _, r := range e.Requests()[before:] {
		got = append(got, r.Operation)
	}
	if want := []string{"get", "token", "get"}; !slices.Equal(got, want) {
		t.Errorf("calls: %v, want %v", got, want)
	}
}

func TestATokenFetchedAgainWithoutTheClaimsIsStillRevoked(t *testing.T) {
	clock := newClock()
	e := start(t, emulator.Options{Now: clock.Now})
	id := rand.Text()
	status := func(tk string) (int, string) {
		res, _ := do(t, e, "GET", "https://"+premium+"/keys?api-version=7.6", bearer(tk), "")
		return res.StatusCode, res.Header.Get("WWW-Authenticate")
	}
	old := fresh(t, e, id)
	e.RevokeTokens(id)
	if got, _ := status(fresh(t, e, id)); got != 401 {
		t.Errorf("a token of the same second got %d", got)
	}
	got, challenge := status(old)
	if got != 401 || !strings.Contains(challenge, `error="insufficient_claims", claims="`) {
		t.Errorf("%d %s", got, challenge)
	}
	clock.advance(time.Second)
	if got, _ := status(fresh(t, e, id)); got != 200 {
		t.Errorf("a token of a second later got %d", got)
	}
}
