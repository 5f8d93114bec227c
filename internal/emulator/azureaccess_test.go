package emulator_test

import (
	"crypto/rand"
	"encoding/json"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/emulator/arm"
)

// manager calls Resource Manager as one identity, over plain HTTP.
type manager struct {
	*emulator.Emulator
	t     *testing.T
	token string
}

func newManager(t *testing.T, e *emulator.Emulator, clientID string) manager {
	t.Helper()
	return manager{e, t, token(t, managedIdentityOf(t, e, clientID), "https://management.azure.com")}
}

func (m manager) do(method, path, body string) (int, string) {
	m.t.Helper()
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	res, text := do(m.t, m.Emulator, method, "https://management.azure.com"+path+separator+"api-version=2022-04-01",
		bearer(m.token), body)
	return res.StatusCode, text
}

// list is the names, or the scopes, of what a path lists.
func (m manager) list(path, filter string) []map[string]any {
	m.t.Helper()
	if filter != "" {
		path += "?$filter=" + url.QueryEscape(filter)
	}
	status, text := m.do("GET", path, "")
	var page struct{ Value []map[string]any }
	if err := json.Unmarshal([]byte(text), &page); err != nil || status != 200 {
		m.t.Fatalf("%s: %d %s", path, status, text)
	}
	return page.Value
}

func property(items []map[string]any, name string) (values []string) {
	for _, i := range items {
		values = append(values, i["properties"].(map[string]any)[name].(string))
	}
	return values
}

const authorization = "/providers/Microsoft.Authorization"

// vaultsAreResources tests a fact.
func vaultsAreResources(t *testing.T) {
	t.Helper()
	e := startVaults(
		t,
		emulator.Options{},
		emulator.VaultConfig{
			Host:            protected,
			PurgeProtection: true,
			RecoverableDays: 30,
			Access:          emulator.PolicyBased,
			Policies:        []emulator.AccessPolicy{{Identity: "someone", Permissions: []string{"get", "wrapKey"}}},
			Firewall: &emulator.Firewall{TrustedServices: true,
				IPRules: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
		},
		emulator.VaultConfig{Host: premium, Location: "northeurope"},
		emulator.VaultConfig{Host: managedHSM, Profile: emulator.ManagedHSM},
	)
	m := newManager(t, e, rand.Text())
	for host, parts := range map[string][]string{
		protected: {`"enablePurgeProtection":true`, `"softDeleteRetentionInDays":30`, `"enableRbacAuthorization":false`,
			`"objectId":"someone","permissions":{"keys":["get","wrapKey"]}`, `"bypass":"AzureServices"`,
			`"defaultAction":"Deny"`, `"value":"192.0.2.0/24"`, `"vaultUri":"https://` + protected + `/"`},
		premium: {`"enableRbacAuthorization":true`, `"accessPolicies":[]`, `"location":"northeurope"`,
			`"sku":{"family":"A","name":"premium"}`},
		managedHSM: {`"hsmUri":"https://` + managedHSM + `/"`, `"sku":{"family":"B","name":"Standard_B1"}`},
	} {
		status, text := m.do("GET", e.Vault(host).ResourceID(), "")
		for _, p := range parts {
			if !strings.Contains(text, p) {
				t.Errorf("%s: %d, %s is not in %s", host, status, p, text)
			}
		}
	}
	id := e.Vault(premium).ResourceID()
	if _, text := m.do("GET", id, ""); strings.Contains(text, "enablePurgeProtection") ||
		strings.Contains(text, "networkAcls") {
		t.Errorf("what was never set is shown: %s", text)
	}
	e.Vault(premium).EnablePurgeProtection()
	e.Vault(premium).SetAccess(emulator.PolicyBased)
	if _, text := m.do("GET", id, ""); !strings.Contains(text, `"enablePurgeProtection":true`) ||
		!strings.Contains(text, `"enableRbacAuthorization":false`) {
		t.Errorf("after the change: %s", text)
	}
	_, err := clientAs(t, e, premium, rand.Text()).GetKey(t.Context(), "k", "", nil)
	wantError(t, err, 403, "Forbidden", "ForbiddenByPolicy")
	if n := len(m.list(id[:strings.LastIndex(id, "/")], "")); n != 2 {
		t.Errorf("%d vaults are listed", n)
	}
}

// rolesReachDownFromEveryScope tests a fact.
func rolesReachDownFromEveryScope(t *testing.T) {
	t.Helper()
	e := startVaults(t, emulator.Options{}, emulator.VaultConfig{Host: premium, Access: emulator.RoleBased})
	foreign(t, e, premium, "k")
	vault := e.Vault(premium).ResourceID()
	group, _, _ := strings.Cut(vault, "/providers")
	for scope, reaches := range map[string]bool{
		"/": true, "/providers/Microsoft.Management/managementGroups/all": true, group: true, vault: true,
		"/subscriptions/" + arm.Subscription: true, vault + "/keys/k": true, vault + "/keys/other": false,
		vault + "2": false, "/subscriptions/" + subscription: false,
	} {
		id, team := rand.Text(), rand.Text()
		e.Consumers().SetGroup(team, "somebody", rand.Text())
		c := clientAs(t, e, premium, id)
		get := func() error { _, err := c.GetKey(t.Context(), "k", "", nil); return err }
		role := arm.RoleAssignment{Principal: team, Role: "Key Vault Crypto Service Encryption User", Scope: scope}
		must(t, e.Consumers().Assign(role))
		if !denied(t, get()) {
			t.Errorf("%s: before it is in the group", scope)
		}
		e.Consumers().SetGroup(team, id)
		if denied(t, get()) == reaches {
			t.Errorf("%s: %v", scope, get())
		}
		must(t, e.Consumers().Unassign(role))
		if !denied(t, get()) {
			t.Errorf("%s: after the role was taken away", scope)
		}
	}
}

func TestDenyAssignmentsAndConditionsTakeARoleAway(t *testing.T) {
	e := startVaults(t, emulator.Options{}, emulator.VaultConfig{Host: premium, Access: emulator.RoleBased})
	foreign(t, e, premium, "k")
	id := rand.Text()
	c := clientAs(t, e, premium, id)
	get := func() error { _, err := c.GetKey(t.Context(), "k", "", nil); return err }
	vault := e.Vault(premium).ResourceID()
	conditional := arm.RoleAssignment{
		Principal: id,
		Role:      "Key Vault Crypto User",
		Scope:     vault,
		Condition: "@Resource",
	}
	must(t, e.Consumers().Assign(conditional))
	if !denied(t, get()) {
		t.Error("a role with a condition allows")
	}
	must(t, e.Consumers().Assign(arm.RoleAssignment{Principal: id, Role: "Key Vault Crypto User", Scope: vault}))
	must(t, get())
	deny := arm.DenyAssignment{
		Name:        "freeze",
		Scope:       vault,
		DataActions: []string{"Microsoft.KeyVault/vaults/keys/*"},
	}
	e.Consumers().Deny(deny)
	if !denied(t, get()) {
		t.Error("in spite of a deny assignment")
	}
	m := newManager(t, e, rand.Text())
	got := property(m.list(vault+authorization+"/denyAssignments", "atScope()"), "denyAssignmentName")
	if !slices.Equal(got, []string{"freeze"}) {
		t.Errorf("deny assignments: %v", got)
	}
	deny.DataActions = nil
	e.Consumers().Deny(deny)
	must(t, get())
}

func TestRoleAssignmentsAreListedByScopeAndPrincipal(t *testing.T) {
	id, team := rand.Text(), rand.Text()
	e := startVaults(t, emulator.Options{}, emulator.VaultConfig{Host: premium, Access: emulator.RoleBased,
		Roles: []emulator.RoleAssignment{{Identity: id, Role: emulator.CryptoUser, Scope: "/keys/k"}}})
	m := newManager(t, e, rand.Text())
	vault := e.Vault(premium).ResourceID()
	group, _, _ := strings.Cut(vault, "/providers")
	e.Consumers().SetGroup(team, id)
	for principal, scope := range map[string]string{team: group, id: "/", "other": vault} {
		must(t, e.Consumers().Assign(arm.RoleAssignment{Principal: principal, Role: "Reader", Scope: scope}))
	}
	for filter, want := range map[string][]string{
		"":                                       {"/", group, vault, vault + "/keys/k"},
		"atScope()":                              {"/", group, vault},
		"assignedTo('" + id + "')":               {"/", group, vault + "/keys/k"},
		"atScope() and assignedTo('" + id + "')": {"/", group},
		"principalId eq '" + id + "'":            {"/", vault + "/keys/k"},
	} {
		got := property(m.list(vault+authorization+"/roleAssignments", filter), "scope")
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", filter, got, want)
		}
	}
	for _, a := range m.list(vault+authorization+"/roleAssignments", "assignedTo('"+id+"')") {
		definition := a["properties"].(map[string]any)["roleDefinitionId"].(string)
		if status, text := m.do("GET", definition, ""); status != 200 || !strings.Contains(text, `"dataActions":[`) {
			t.Errorf("%s: %d %s", definition, status, text)
		}
	}
	if status, text := m.do("GET", vault+authorization+"/roleAssignments?$filter=type%20eq%201", ""); status != 400 {
		t.Errorf("an unknown filter: %d %s", status, text)
	}
}

func TestARoleIsAssignedThroughResourceManager(t *testing.T) {
	e := startVaults(t, emulator.Options{}, emulator.VaultConfig{Host: premium, Access: emulator.RoleBased})
	foreign(t, e, premium, "k")
	id := rand.Text()
	c, m := clientAs(t, e, premium, id), newManager(t, e, rand.Text())
	definition := m.list(authorization+"/roleDefinitions", "roleName eq 'Key Vault Crypto Service Encryption User'")
	path := e.Vault(premium).
		ResourceID() +
		"/keys/k" + authorization + "/roleAssignments/00000000-0000-4000-8000-000000000001"
	if status, text := m.do("PUT", path, `{"properties":{"principalId":"`+id+`","roleDefinitionId":"`+
		definition[0]["id"].(string)+`"}}`); status != 201 {
		t.Fatalf("%d %s", status, text)
	}
	_, err := c.GetKey(t.Context(), "k", "", nil)
	must(t, err)
	if status, _ := m.do("DELETE", path, ""); status != 200 {
		t.Errorf("deleting: %d", status)
	}
	_, err = c.GetKey(t.Context(), "k", "", nil)
	wantError(t, err, 403, "Forbidden", "ForbiddenByRbac")
}

func TestAManagedHSMListsItsLocalRoles(t *testing.T) {
	id, admin := rand.Text(), rand.Text()
	e := startVaults(t, emulator.Options{}, emulator.VaultConfig{Host: managedHSM, Profile: emulator.ManagedHSM,
		Access: emulator.RoleBased, Roles: []emulator.RoleAssignment{
			{Identity: id, Role: emulator.CryptoServiceEncryptionUser, Scope: "/keys/k"},
			{Identity: admin, Role: emulator.Administrator}}})
	get := func(who, path string) (int, string) {
		res, text := do(t, e, "GET", "https://"+managedHSM+path+"api-version=7.4",
			bearer(token(t, managedIdentityOf(t, e, who), "https://managedhsm.azure.net")), "")
		return res.StatusCode, text
	}
	filter := "?$filter=" + url.QueryEscape("principalId eq '"+id+"'") + "&"
	for path, has := range map[string]bool{
		"/keys/k" + authorization + "/roleAssignments" + filter: true,
		authorization + "/roleAssignments" + filter:             true,
		"/keys/other" + authorization + "/roleAssignments?":     false,
		authorization + "/roleDefinitions?":                     true,
	} {
		status, text := get(admin, path)
		if status != 200 || strings.Contains(text, "33413926-3206-4cdd-b39a-83574fe37a17") != has {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	if status, text := get(id, authorization+"/roleAssignments?"); status != 403 {
		t.Errorf("an encryption user: %d %s", status, text)
	}
}

func TestADeletedIdentityCannotSignIn(t *testing.T) {
	s := newEstate(t, emulator.Options{})
	s.rotate()
	g := newGeneric(t, s.Emulator)
	must(t, g.put(userID, `{"location":"westeurope"}`))
	g.wantShown(userID, `"principalId":"`, `"clientId":"`)
	must(t, g.put(accountID, `{`+withUser+`"properties":{"encryption":{"keySource":"Microsoft.Keyvault",`+
		`"identity":{"userAssignedIdentity":"`+userID+`"},"keyvaultproperties":{"keyvaulturi":"https://`+protected+
		`","keyname":"cmk"}}}}`))
	s.write("st")
	must(t, s.Consumers().DeleteIdentity(userID))
	_, err := g.GetByID(t.Context(), userID, anyVersion, nil)
	wantError(t, err, 404, "ResourceNotFound", "")
	s.wantLost("it was deleted", "st")
	must(t, g.put(userID, `{"location":"westeurope"}`))
	s.wantReadable()
}

func TestResourceManagerAsksForRoles(t *testing.T) {
	s := newEstate(t, emulator.Options{ResourceRoles: true})
	s.rotate()
	id := rand.Text()
	m := newManager(t, s.Emulator, id)
	allow := func(name, scope string, actions ...string) {
		t.Helper()
		s.Consumers().DefineRole(arm.Role{Name: name, Actions: actions})
		must(t, s.Consumers().Assign(arm.RoleAssignment{Principal: id, Role: name, Scope: scope}))
	}
	body := `{` + withUser + `"properties":{}}`
	if status, text := m.do("PUT", accountID, body); status != 403 || !strings.Contains(
		text,
		"does not have authorization to perform action 'Microsoft.Storage/storageAccounts/write' over scope '"+
			accountID,
	) {
		t.Errorf("without a role: %d %s", status, text)
	}
	allow("writer", accountID, "Microsoft.Storage/storageAccounts/write")
	if status, text := m.do("PUT", accountID, body); status != 403 ||
		!strings.Contains(text, "LinkedAuthorizationFailed") {
		t.Errorf("without a right to the identity: %d %s", status, text)
	}
	allow("assigner", userID, "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action")
	if status, text := m.do("PUT", accountID, body); status != 202 {
		t.Errorf("with both: %d %s", status, text)
	}
	if status, _ := m.do("GET", accountID, ""); status != 403 {
		t.Errorf("reading with a role to write: %d", status)
	}
	allow("looker", "/subscriptions/"+subscription, "Microsoft.Storage/storageAccounts/read")
	if status, _ := m.do("GET", accountID, ""); status != 200 {
		t.Errorf("reading: %d", status)
	}
}

func TestTheAdminEndpointChangesAzuresRoles(t *testing.T) {
	s := newEstate(t, emulator.Options{AdminListen: "127.0.0.1:0"})
	s.rotate()
	id := rand.Text()
	vault := s.vault.ResourceID()
	meddle := func(do, what string, want int) {
		t.Helper()
		body, err := json.Marshal(map[string]string{"host": protected, "do": do, "what": what})
		must(t, err)
		if status, text := adminCall(t, s.Emulator, "POST", "/meddle", string(body)); status != want {
			t.Errorf("%s %s: %d %s", do, what, status, text)
		}
	}
	c := clientAs(t, s.Emulator, protected, id)
	get := func() error { _, err := c.GetKey(t.Context(), "cmk", "", nil); return err }
	meddle("SetAccess", "roles", 200)
	meddle("SetGroup", "team="+id, 200)
	meddle("DefineRole", "looker:*/read:Microsoft.KeyVault/vaults/keys/read", 200)
	if !denied(t, get()) {
		t.Error("without a role")
	}
	meddle("AssignAt", "team:looker:"+vault, 200)
	must(t, get())
	meddle("Deny", "freeze::"+vault+":Microsoft.KeyVault/vaults/keys/read", 200)
	if !denied(t, get()) {
		t.Error("in spite of a deny assignment")
	}
	meddle("Deny", "freeze::"+vault+":", 200)
	must(t, get())
	meddle("UnassignAt", "team:looker:"+vault, 200)
	if !denied(t, get()) {
		t.Error("after the role was taken away")
	}
	meddle("EnablePurgeProtection", "", 200)
	for do, what := range map[string]string{
		"SetAccess": "closed", "AssignAt": "x:Unknown:/", "UnassignAt": "x:Reader:/",
		"Deny": "x", "SetGroup": "x", "DefineRole": "", "DeleteIdentity": "/none"} {
		meddle(do, what, 400)
	}
}
