package consumer_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	azpolicy "github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/emulator/arm"
	"github.com/keyd-project/keyd/internal/key"
)

// The roles in deploy/azure for those who encrypt under keyd's keys, compared with the calls that keyd sends.

type armRole struct {
	Name                                             string
	Actions, NotActions, DataActions, NotDataActions []string
}

func shippedRole(t *testing.T, file string) (r armRole) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../deploy/azure", file))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.NotActions)+len(r.DataActions)+len(r.NotDataActions) > 0 {
		t.Errorf("%s has more than actions: %+v", file, r)
	}
	return r
}

// actionOf is the action that Azure asks for to answer a GET.
func actionOf(path string) string {
	if path == "/subscriptions" {
		return "Microsoft.Resources/subscriptions/read"
	}
	at := strings.LastIndex(path, "/providers/")
	parts := strings.Split(path[at+len("/providers/"):], "/")
	action := parts[0]
	for i := 1; i < len(parts); i += 2 {
		action += "/" + parts[i]
	}
	return action + "/read"
}

const (
	vaultID = "/subscriptions/" + sub + "/resourceGroups/g/providers/Microsoft.KeyVault/vaults/contoso-weu"
	otherID = "/subscriptions/" + sub + "/resourceGroups/g/providers/Microsoft.KeyVault/vaults/contoso-neu"
	role    = "/subscriptions/" + sub + "/providers/Microsoft.Authorization/roleDefinitions/r"
)

// inspected answers what an inspection asks, besides the samples of services.
func inspected(c *cloud) {
	const in = "/subscriptions/" + sub + "/providers/Microsoft.KeyVault/"
	vaultOf := func(id, uri string) string {
		return `{"id":"` + id + `","location":"westeurope","properties":{"tenantId":"T","vaultUri":"` + uri + `/",
			"sku":{"name":"premium"},"enableSoftDelete":true,"enablePurgeProtection":true,
			"enableRbacAuthorization":true}}`
	}
	for path, body := range map[string]string{
		"/subscriptions":   `{"value":[{"subscriptionId":"SUB"}]}`,
		in + "managedHSMs": `{"value":[]}`,
		in + "vaults":      `{"value":[` + vaultOf(vaultID, "WEU") + `,` + vaultOf(otherID, "NEU") + `]}`,
		otherID + "/keys/cmk/providers/Microsoft.Authorization/roleAssignments": `{"value":[]}`,
		otherID + "/keys/cmk/providers/Microsoft.Authorization/denyAssignments": `{"value":[]}`,
		vaultID + "/keys/cmk/providers/Microsoft.Authorization/roleAssignments": `{"value":[{"properties":{
			"roleDefinitionId":"` + role + `","principalId":"USER","scope":"/"}}]}`,
		vaultID + "/keys/cmk/providers/Microsoft.Authorization/denyAssignments": `{"value":[]}`,
		role: `{"properties":{"roleName":"r","permissions":[{"dataActions":["*"]}]}}`,
		uami: `{"id":"UAMI","properties":{"principalId":"USER","clientId":"CLIENT","tenantId":"T"}}`,
	} {
		c.set(path, body)
	}
}

func TestTheRoleToLookHasTheActionsOfTheCallsThatLooksSend(t *testing.T) {
	sent := map[string]bool{}
	for name, s := range samples() {
		c := newCloud(s.answers)
		inspected(c)
		p := cmk(s.id)
		p.Discover = true
		w := watcher(t, c, consumer.Config{})
		i := w.Inspect([]key.Policy{p}, system, nil)
		for _, seen := range i.Look(t.Context(), p).Consumers {
			for _, f := range i.Consumer(t.Context(), p, seen) {
				if f.Outcome == consumer.Unseen {
					t.Errorf("%s: %s: %s", name, f.Question, f.Detail)
				}
			}
		}
		i.Vault(t.Context(), key.Vault{URL: "https://contoso.managedhsm.azure.net", Kind: key.ManagedHSM})
		for _, call := range c.sent() {
			method, path, _ := strings.Cut(call, " ")
			if path == "/providers/Microsoft.ResourceGraph/resources" { // needs no right but those to what it finds
				continue
			}
			if method != http.MethodGet {
				t.Errorf("%s sends %s", name, call)
			}
			if !strings.HasPrefix(path, "/") {
				path = group + path
			}
			sent[strings.ToLower(actionOf(path))] = true
		}
	}
	role := shippedRole(t, "consumers-look-role.json")
	for _, a := range role.Actions {
		if !sent[strings.ToLower(a)] {
			t.Errorf("no look needs %s", a)
		}
		delete(sent, strings.ToLower(a))
	}
	for a := range sent {
		t.Errorf("a look needs %s, which the role does not have", a)
	}
}

// The emulator asks for roles as Resource Manager does.
func TestWithTheRoleToLookEverySetUpIsSeen(t *testing.T) {
	role := shippedRole(t, "consumers-look-role.json")
	for _, spec := range services {
		t.Run(spec, func(t *testing.T) {
			l := newLandscape(t, emulator.Options{ResourceRoles: true}, spec)
			l.Consumers().DefineRole(arm.Role{Name: role.Name, Actions: role.Actions})
			must(t, l.Consumers().Assign(arm.RoleAssignment{Principal: l.own, Role: role.Name,
				Scope: "/subscriptions/" + arm.Subscription}))
			for question, f := range l.look() {
				if f.Outcome == consumer.Unseen {
					t.Errorf("%s: %s", question, f.Detail)
				}
			}
		})
	}
}

// movesSent are the actions that Azure asks for to carry out the calls of every move: each service tells by an
// operation of its own how its change goes, and no server knows the new version yet.
func movesSent(t *testing.T) map[string]bool {
	t.Helper()
	needed := map[string]bool{}
	for name, m := range movables() {
		synctest.Test(t, func(t *testing.T) {
			v := newMoving(t, m)
			for path := range m.answers {
				if strings.HasSuffix(path, "/keys") {
					v.set(path, `{"value":[]}`)
				}
			}
			provider, _, _ := strings.Cut(m.id[len(group):], "/")
			operation := "/subscriptions/" + sub + "/providers/" + provider + "/locations/westeurope/operations/1"
			v.write = func(r *http.Request) *http.Response {
				if !strings.Contains(r.URL.Path, "/keys/") {
					v.use(newID)
				}
				resp := answer(r, http.StatusAccepted, "")
				resp.Header.Set("Azure-AsyncOperation", "https://management.azure.com"+operation)
				return resp
			}
			v.set(operation, `{"status":"Succeeded"}`)
			if err := v.repoint(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			for _, entry := range v.log {
				method, rest, _ := strings.Cut(entry, " ")
				path, body, _ := strings.Cut(rest, " ")
				if !strings.HasPrefix(path, "/") {
					path = group + path
				}
				action := strings.ToLower(actionOf(path))
				if method != http.MethodGet {
					action = strings.TrimSuffix(action, "/read") + "/write"
				}
				needed[action] = true
				if strings.Contains(body, `"userAssignedIdentities"`) {
					needed["microsoft.managedidentity/userassignedidentities/assign/action"] = true
				}
			}
		})
	}
	return needed
}

// allows reports whether an action of a role, which may have a star, is or includes an action in lower case.
func allows(of, action string) bool {
	ok, err := path.Match(strings.ToLower(of), action)
	return ok && err == nil
}

func TestTheRolesHaveTheActionsOfTheCallsThatMovesSend(t *testing.T) {
	needed := movesSent(t)
	look, repoint := shippedRole(t, "consumers-look-role.json"), shippedRole(t, "consumers-repoint-role.json")
	for action := range needed {
		of := func(a string) bool { return allows(a, action) }
		if !slices.ContainsFunc(slices.Concat(look.Actions, repoint.Actions), of) {
			t.Errorf("a move needs %s, which neither role has", action)
		}
	}
	for _, a := range repoint.Actions {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(needed)), func(x string) bool { return allows(a, x) }) {
			t.Errorf("no move needs %s", a)
		}
		if slices.Contains(look.Actions, a) {
			t.Errorf("both roles have %s", a)
		}
	}
}

// refused reports whether the emulator's roles refuse keyd to write at a path. What it would write is invalid, so
// nothing is written.
func (l *landscape) refused(path string) bool {
	l.t.Helper()
	req, err := http.NewRequestWithContext(l.t.Context(), http.MethodPut, "https://management.azure.com"+path+
		"?api-version=2025-01-01", strings.NewReader(`{"identity":{"userAssignedIdentities":{"`+uami+`":{}}},`+
		`"properties":"x"}`))
	must(l.t, err)
	token, err := l.cred.GetToken(l.t.Context(), azpolicy.TokenRequestOptions{
		Scopes: []string{"https://management.azure.com/.default"}})
	must(l.t, err)
	req.Header.Set("Authorization", "Bearer "+token.Token)
	resp, err := l.Transport().RoundTrip(req)
	must(l.t, err)
	must(l.t, resp.Body.Close())
	if resp.StatusCode < 400 {
		l.t.Errorf("%s is written: %d", path, resp.StatusCode)
	}
	return resp.StatusCode == http.StatusForbidden
}

func TestWithoutAnyActionOfTheRoleToRepointAMoveIsRefused(t *testing.T) {
	role := shippedRole(t, "consumers-repoint-role.json")
	l := newLandscape(t, emulator.Options{ResourceRoles: true}, "storage=st,key=KEY")
	l.Consumers().DefineRole(arm.Role{Name: role.Name, Actions: role.Actions})
	must(t, l.Consumers().Assign(arm.RoleAssignment{Principal: l.own, Role: role.Name, Scope: "/subscriptions/" + sub}))
	const in = "/subscriptions/" + sub + "/resourceGroups/g/providers/"
	writes := map[string]string{} // paths by action
	for _, a := range role.Actions {
		if kind, ok := strings.CutSuffix(a, "/write"); ok {
			parts := strings.Split(kind, "/")
			writes[a] = in + parts[0] + "/" + strings.Join(parts[1:], "/n/") + "/n"
		}
	}
	for a, path := range writes {
		l.Consumers().DefineRole(arm.Role{Name: role.Name, Actions: role.Actions})
		if l.refused(path) {
			t.Errorf("%s is refused with the role", path)
		}
		without := slices.DeleteFunc(slices.Clone(role.Actions), func(x string) bool { return x == a })
		l.Consumers().DefineRole(arm.Role{Name: role.Name, Actions: without})
		if !l.refused(path) {
			t.Errorf("%s is not refused without %s", path, a)
		}
	}
	l.Consumers().DefineRole(arm.Role{Name: role.Name, Actions: slices.DeleteFunc(slices.Clone(role.Actions),
		func(x string) bool { return strings.HasSuffix(x, "/assign/action") })})
	if !l.refused(in + "Microsoft.Storage/storageAccounts/n") {
		t.Error("an identity can be given without the right to assign it")
	}
}
