package consumer

import (
	"slices"
	"strings"
	"testing"
)

const (
	keyPlace = "/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/v/keys/k"
	someone  = "11111111-1111-4111-8111-111111111111"
)

func data(actions ...string) permission { return permission{DataActions: actions} }

func TestRightsAreJudgedByDataActions(t *testing.T) {
	condition := "@Resource[x] StringEquals 'y'"
	all := grant{role: "r", scope: "/", permissions: []permission{data(vaultNeeds...)}}
	conditional := all
	conditional.conditional = true
	butUnwrap := permission{DataActions: []string{"*"}, NotDataActions: []string{"*/unwrap/action"}}
	others := all
	others.unsure = true
	with := func(all ...permission) []grant { return []grant{{role: "r", permissions: all}} }
	freeze := func(all ...permission) []denial { return []denial{{"freeze", all}} }
	const none = "read wrap unwrap"
	for name, c := range map[string]struct {
		grants  []grant
		denials []denial
		missing string // parts of the actions
		open    string
	}{
		"every action by name": {grants: []grant{all}},
		"a wildcard":           {grants: with(data("microsoft.keyvault/VAULTS/keys/*"))},
		"everything":           {grants: with(data("*"))},
		"a wildcard in the middle": {grants: with(
			data("*/read", "Microsoft.KeyVault/*/wrap/action", "Microsoft.KeyVault/*/unwrap/action"))},
		"two roles together": {grants: append(with(data(vaultNeeds[0])), with(data(vaultNeeds[1:]...))...)},

		"no role":              {missing: none},
		"a role with its name": {grants: []grant{{role: "Key Vault Crypto User"}}, missing: none},
		"a pattern of a part":  {grants: with(data("keys/*")), missing: none},
		"wrap, not unwrap":     {grants: with(data(vaultNeeds[:2]...)), missing: "unwrap"},
		"an action taken out":  {grants: with(butUnwrap), missing: "unwrap"},

		"taken out of one of two":      {grants: append(with(butUnwrap), all)},
		"a condition":                  {grants: []grant{conditional}, open: "has a condition"},
		"a condition, and one without": {grants: []grant{conditional, all}},
		"a condition of the role": {grants: with(permission{DataActions: []string{"*"}, Condition: &condition}),
			open: "has a condition"},
		"perhaps through a group": {grants: []grant{others}, open: "may be a group"},

		"a deny assignment": {grants: []grant{all}, denials: freeze(data("*/unwrap/action")),
			open: "freeze may take it away"},
		"one of other actions":          {grants: []grant{all}, denials: freeze(data("*/delete"), data())},
		"a deny assignment and no role": {denials: freeze(data("*")), missing: none},
	} {
		t.Run(name, func(t *testing.T) {
			v := access{c.grants, c.denials}.judge(vaultNeeds)
			var missing []string
			for _, action := range v.missing {
				missing = append(missing, strings.Split(action, "/")[3])
			}
			if got := strings.Join(missing, " "); got != c.missing {
				t.Errorf("missing: %q, want %q", got, c.missing)
			}
			if open := strings.Join(v.open, "; "); (open == "") != (c.open == "") || !strings.Contains(open, c.open) {
				t.Errorf("not decided: %q, want %q", open, c.open)
			}
		})
	}
}

func TestAnAssignmentReachesWhatIsBelowItsScope(t *testing.T) {
	vault := strings.TrimSuffix(keyPlace, "/keys/k")
	for scope, want := range map[string]bool{
		"/": true, "/subscriptions/s": true, "/SUBSCRIPTIONS/S/resourcegroups/G": true, vault: true, keyPlace: true,
		vault + "/": true, "/providers/Microsoft.Management/managementGroups/all": true,
		vault + "/keys/other": false, vault + "2": false, keyPlace + "/versions/1": false,
		"/subscriptions/other": false,
	} {
		if got := reaches(scope, keyPlace); got != want {
			t.Errorf("%s: %v", scope, got)
		}
	}
}

func TestADenyAssignmentConcernsWhomItNames(t *testing.T) {
	who := func(id, kind string) []principal { return []principal{{&id, &kind}} }
	const other, service = "22222222-2222-4222-8222-222222222222", "ServicePrincipal"
	all := who(everyone, "SystemDefined")
	for name, c := range map[string]struct {
		principals, excluded []principal
		want                 bool
	}{
		"it":                   {who(someone, service), nil, true},
		"another":              {who(other, service), nil, false},
		"a group":              {who(other, "Group"), nil, true},
		"a kind that is new":   {who(other, "Thing"), nil, true},
		"everyone":             {all, nil, true},
		"everyone but it":      {all, who(someone, service), false},
		"everyone but another": {all, who(other, service), true},
	} {
		if got := mayConcern(strings.ToUpper(someone), c.principals, c.excluded); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestAnAccessPolicyOfAnotherMayBeAGroups(t *testing.T) {
	keyd, other, app := "keyd", "other", "app"
	policy := func(id string, keys ...string) accessPolicy {
		p := accessPolicy{ObjectID: &id}
		p.Permissions.Keys = keys
		return p
	}
	behalf := policy(someone, "all")
	behalf.ApplicationID = &app
	for name, c := range map[string]struct {
		policies []accessPolicy
		want     Outcome
	}{
		"its own":      {[]accessPolicy{policy(strings.ToUpper(someone), "Get", "WrapKey", "unwrapkey")}, Right},
		"all":          {[]accessPolicy{policy(someone, "all")}, Right},
		"no unwrap":    {[]accessPolicy{policy(someone, "get", "wrapKey")}, Wrong},
		"none":         {nil, Wrong},
		"another's":    {[]accessPolicy{policy(other, "get", "wrapKey", "unwrapKey")}, Undecided},
		"keyd's":       {[]accessPolicy{policy(keyd, "get", "wrapKey", "unwrapKey")}, Wrong},
		"on behalf":    {[]accessPolicy{behalf}, Wrong},
		"two together": {[]accessPolicy{policy(someone, "get"), policy(other, "all")}, Undecided},
	} {
		a := policyAccess(vaultProperties{Policies: c.policies}, someone, []string{"", keyd})
		if f := judgeRights(a.judge(policyNeeds), someone, "mend"); f.Outcome != c.want {
			t.Errorf("%s: %+v", name, f)
		}
	}
	two := vaultProperties{Policies: []accessPolicy{policy(someone, "list"), behalf}}
	if p := permissionsOf(two, someone); !slices.Equal(p, []string{"list"}) {
		t.Errorf("its own policy has %v", p)
	}
}
