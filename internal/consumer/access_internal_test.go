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
	others := all
	others.unsure = true
	for name, c := range map[string]struct {
		grants  []grant
		denials []denial
		missing string // last parts of actions
		open    string
	}{
		"every action by name": {grants: []grant{all}},
		"a wildcard":           {grants: []grant{{permissions: []permission{data("microsoft.keyvault/VAULTS/keys/*")}}}},
		"everything":           {grants: []grant{{permissions: []permission{data("*")}}}},
		"a wildcard in the middle": {grants: []grant{{permissions: []permission{
			data("*/read", "Microsoft.KeyVault/*/wrap/action", "Microsoft.KeyVault/*/unwrap/action")}}}},
		"two roles together": {grants: []grant{
			{permissions: []permission{data(vaultNeeds[0])}}, {permissions: []permission{data(vaultNeeds[1:]...)}}}},
		"no role":              {missing: "read wrap unwrap"},
		"a role with its name": {grants: []grant{{role: "Key Vault Crypto User"}}, missing: "read wrap unwrap"},
		"rights on resources":  {grants: []grant{{permissions: []permission{{Actions: []string{"*"}}}}}, missing: "read wrap unwrap"},
		"a pattern of a part":  {grants: []grant{{permissions: []permission{data("keys/*")}}}, missing: "read wrap unwrap"},
		"wrap, not unwrap":     {grants: []grant{{permissions: []permission{data(vaultNeeds[:2]...)}}}, missing: "unwrap"},
		"an action taken out":  {grants: []grant{{permissions: []permission{{DataActions: []string{"*"}, NotDataActions: []string{"*/unwrap/action"}}}}}, missing: "unwrap"},
		"taken out of one of two": {grants: []grant{all, {permissions: []permission{{DataActions: []string{"*"},
			NotDataActions: []string{"*/unwrap/action"}}}}}},
		"a condition":                   {grants: []grant{conditional}, open: "has a condition"},
		"a condition of the role":       {grants: []grant{{permissions: []permission{{DataActions: []string{"*"}, Condition: &condition}}}}, open: "has a condition"},
		"a condition, and one without":  {grants: []grant{conditional, all}},
		"perhaps through a group":       {grants: []grant{others}, open: "may be a group"},
		"a deny assignment":             {grants: []grant{all}, denials: []denial{{"freeze", []permission{data("*/unwrap/action")}}}, open: "freeze may take it away"},
		"one of other actions":          {grants: []grant{all}, denials: []denial{{"freeze", []permission{data("*/delete"), {Actions: []string{"*"}}}}}},
		"a deny assignment and no role": {denials: []denial{{"freeze", []permission{data("*")}}}, missing: "read wrap unwrap"},
	} {
		t.Run(name, func(t *testing.T) {
			v := access{c.grants, c.denials}.judge(vaultNeeds, permission.onData)
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
		vault + "/keys/other": false, vault + "2": false, keyPlace + "/versions/1": false, "/subscriptions/other": false,
	} {
		if got := reaches(scope, keyPlace); got != want {
			t.Errorf("%s: %v", scope, got)
		}
	}
}

func TestADenyAssignmentConcernsWhomItNames(t *testing.T) {
	me, other, kind := someone, "22222222-2222-4222-8222-222222222222", "ServicePrincipal"
	group, system, nobody := "Group", "SystemDefined", everyone
	for name, c := range map[string]struct {
		principals, excluded []principal
		want                 bool
	}{
		"it":                              {principals: []principal{{&me, &kind}}, want: true},
		"another":                         {principals: []principal{{&other, &kind}}},
		"a group":                         {principals: []principal{{&other, &group}}, want: true},
		"everyone":                        {principals: []principal{{&nobody, &system}}, want: true},
		"everyone but it":                 {principals: []principal{{&nobody, &system}}, excluded: []principal{{&me, &kind}}},
		"everyone but others":             {principals: []principal{{&nobody, &system}}, excluded: []principal{{&other, &kind}}, want: true},
		"one of a kind that is not shown": {principals: []principal{{&other, nil}}, want: true},
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
		"its own":                     {[]accessPolicy{policy(strings.ToUpper(someone), "Get", "WrapKey", "unwrapkey")}, Right},
		"all":                         {[]accessPolicy{policy(someone, "all")}, Right},
		"no unwrap":                   {[]accessPolicy{policy(someone, "get", "wrapKey")}, Wrong},
		"none":                        {nil, Wrong},
		"another's":                   {[]accessPolicy{policy(other, "get", "wrapKey", "unwrapKey")}, Undecided},
		"one that is known":           {[]accessPolicy{policy(keyd, "get", "wrapKey", "unwrapKey")}, Wrong},
		"of an application for it":    {[]accessPolicy{behalf}, Wrong},
		"a part of it, and another's": {[]accessPolicy{policy(someone, "get"), policy(other, "all")}, Undecided},
	} {
		a := policyAccess(vaultProperties{Policies: c.policies}, someone, []string{"", keyd})
		if f := judgeRights(a.judge(policyNeeds, permission.onData), someone, "mend"); f.Outcome != c.want {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if p := permissionsOf(vaultProperties{Policies: []accessPolicy{policy(someone, "list"), behalf}}, someone); !slices.Equal(
		p,
		[]string{"list"},
	) {
		t.Errorf("its own policy has %v", p)
	}
}
