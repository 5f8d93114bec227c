package terraform_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"

	"github.com/keyd-project/keyd/internal/key"
)

func text(t *testing.T, value cty.Value) string {
	t.Helper()
	s, err := convert.Convert(value, cty.String)
	if err != nil {
		t.Fatal(err)
	}
	return s.AsString()
}

func TestTheVaultIsAsTheReadmePromises(t *testing.T) {
	vault := load(t, "vault").block(t, "azurerm_key_vault.keyd").Body
	for argument, want := range map[string]string{
		"sku_name":                   "premium",
		"rbac_authorization_enabled": "true",
		"purge_protection_enabled":   "true",
		"soft_delete_retention_days": "90",
	} {
		if is := constant(t, vault, argument); is != want {
			t.Errorf("%s is %q, not %q", argument, is, want)
		}
	}
	rules := only(t, vault, "network_acls")
	if is := constant(t, rules, "default_action"); is != "Deny" {
		t.Errorf("everybody may call the vault: default_action is %q", is)
	}
	if is := constant(t, rules, "bypass"); is != "AzureServices" {
		t.Errorf("the firewall keeps trusted services out: bypass is %q", is)
	}
	for _, addresses := range []string{"var.admin_addresses", "var.keyd_addresses"} {
		if is := refersTo(rules, "ip_rules"); !slices.Contains(is, addresses) {
			t.Errorf("ip_rules does not have %s, but %v", addresses, is)
		}
	}
}

func TestTerraformDestroysNeitherAVaultNorWhatIsEncrypted(t *testing.T) {
	keeps := map[string][]string{
		"vault": {"azurerm_key_vault"},
		"consumers": {"azurerm_storage_account", "azurerm_cosmosdb_account", "azurerm_cognitive_account",
			"azurerm_cognitive_account_customer_managed_key"},
	}
	for _, name := range parts {
		for _, kind := range keeps[name] {
			for _, b := range load(t, name).typed(kind) {
				if constant(t, only(t, b.Body, "lifecycle"), "prevent_destroy") != "true" {
					t.Errorf("%s has no prevent_destroy", address(b))
				}
			}
		}
	}
	provider := load(t, "vault").block(t, "provider.azurerm").Body
	features := only(t, only(t, provider, "features"), "key_vault")
	if constant(t, features, "purge_soft_delete_on_destroy") != "false" {
		t.Error("Terraform would purge a vault that it destroys")
	}
}

// A pinned key id where the service follows a versionless one would end at the first rotation.
func TestEveryServiceThatFollowsNewVersionsGetsAKeyWithoutOne(t *testing.T) {
	consumers := load(t, "consumers")
	found := 0
	for _, b := range consumers.blocks {
		eachBody(b.Body, func(body *hclsyntax.Body) {
			for _, is := range refersTo(body, "key_vault_key_id") {
				found++
				attribute := is[strings.LastIndex(is, ".")+1:]
				if b.Labels[0] == "azurerm_cognitive_account_customer_managed_key" {
					pinned(t, b, attribute)
				} else if attribute != "versionless_id" || !strings.HasPrefix(is, "data.azurerm_key_vault_key.") {
					t.Errorf("%s is set to %s, not to a key's versionless_id", address(b), is)
				}
			}
		})
	}
	if found != 3 {
		t.Errorf("%d services get a key, not 3", found)
	}
	for _, name := range parts {
		for _, b := range load(t, name).blocks {
			eachAttribute(b.Body, func(a *hclsyntax.Attribute) {
				for _, traversal := range a.Expr.Variables() {
					is := steps(traversal)
					if slices.Contains(is, "azurerm_key_vault_key") && changes(is[len(is)-1]) &&
						b.Labels[0] != "azurerm_cognitive_account_customer_managed_key" {
						t.Errorf("%s: %s changes with each rotation", a.SrcRange, strings.Join(is, "."))
					}
				}
			})
		}
	}
}

// changes says whether a rotation changes what a key's data source has under this name.
func changes(attribute string) bool {
	return !slices.Contains([]string{"versionless_id", "resource_versionless_id", "name", "key_vault_id"}, attribute)
}

// pinned checks the one service that does not follow: Terraform sets a version once, and never again.
func pinned(t *testing.T, b *hclsyntax.Block, attribute string) {
	t.Helper()
	if attribute != "id" {
		t.Errorf("%s does not follow new versions, and is set to %s", address(b), attribute)
	}
	if !slices.Equal(names(only(t, b.Body, "lifecycle"), "ignore_changes"), []string{"key_vault_key_id"}) {
		t.Errorf("%s: Terraform would undo what keyd or a person repointed", address(b))
	}
}

func TestTerraformLeavesTheKeyOfAnAIAccountToTheResourceForIt(t *testing.T) {
	account := load(t, "consumers").block(t, "azurerm_cognitive_account.ai")
	ignored := names(only(t, account.Body, "lifecycle"), "ignore_changes")
	if !slices.Equal(ignored, []string{"customer_managed_key"}) {
		t.Errorf("%s ignores %v, and would take the account's key away", address(account), ignored)
	}
}

func TestTheSecondPartMakesNoKeyAndKnowsEachKeyWhenItPlans(t *testing.T) {
	for _, name := range parts {
		for _, b := range load(t, name).blocks {
			if b.Type == "resource" && strings.HasPrefix(b.Labels[0], "azurerm_key_vault_key") {
				t.Errorf("%s: keyd makes the keys, not Terraform", address(b))
			}
			if b.Type != "data" {
				continue
			}
			eachAttribute(b.Body, func(a *hclsyntax.Attribute) {
				for _, traversal := range a.Expr.Variables() {
					if root := traversal.RootName(); root != "var" && root != "data" && root != "self" {
						t.Errorf(
							"%s: %s waits for an apply, so Terraform plans without knowing it",
							a.SrcRange,
							address(b),
						)
					}
				}
			})
		}
	}
}

func TestEachKeyIsRefusedUnlessKeydImportedIt(t *testing.T) {
	keys := 0
	for _, b := range load(t, "consumers").blocks {
		if b.Type != "data" || b.Labels[0] != "azurerm_key_vault_key" {
			continue
		}
		keys++
		var asks []string
		for _, condition := range inner(only(t, b.Body, "lifecycle"), "postcondition") {
			asks = append(asks, refersTo(condition, "condition")...)
		}
		want := []string{"self.key_type", "self.tags"}
		if b.Labels[1] == "ai" {
			want = append(want, "self.n")
		}
		if !slices.Equal(asks, want) {
			t.Errorf("%s asks for %v, not %v", address(b), asks, want)
		}
		if !strings.Contains(read(t, b.TypeRange.Filename), `"`+key.TagInstance+`"`) {
			t.Errorf("%s does not ask for the tag of keyd's versions, %s", address(b), key.TagInstance)
		}
	}
	if keys != 3 {
		t.Errorf("%d keys, not 3", keys)
	}
}

// An AI account takes 2048 bits only; the provider shows a modulus in unpadded base64url.
func TestTheModulusOfAnAIAccountsKeyHas2048Bits(t *testing.T) {
	ai := load(t, "consumers").block(t, "data.azurerm_key_vault_key.ai")
	condition := inner(only(t, ai.Body, "lifecycle"), "postcondition")[1].Attributes["condition"]
	for bits, fits := range map[int]bool{2048: true, 3072: false, 4096: false} {
		characters := (bits/8*4 + 2) / 3
		self := cty.ObjectVal(map[string]cty.Value{"n": cty.StringVal(strings.Repeat("A", characters))})
		is, diags := condition.Expr.Value(&hcl.EvalContext{
			Variables: map[string]cty.Value{"self": self},
			Functions: map[string]function.Function{"length": stdlib.StrlenFunc},
		})
		if diags.HasErrors() || is.True() != fits {
			t.Errorf("RSA-%d: %v %v", bits, is, diags)
		}
	}
}

// evaluated returns the roles of vault/roles.tf as Terraform would work them out.
func evaluated(t *testing.T, retire bool) map[string]cty.Value {
	t.Helper()
	ctx := &hcl.EvalContext{
		Variables: map[string]cty.Value{
			"var":  cty.ObjectVal(map[string]cty.Value{"retire": cty.BoolVal(retire)}),
			"path": cty.ObjectVal(map[string]cty.Value{"module": cty.StringVal("vault")}),
		},
		Functions: map[string]function.Function{
			"merge": stdlib.MergeFunc, "jsondecode": stdlib.JSONDecodeFunc,
			"file": function.New(&function.Spec{
				Params: []function.Parameter{{Name: "path", Type: cty.String}},
				Type:   function.StaticReturnType(cty.String),
				Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
					b, err := os.ReadFile(args[0].AsString())
					return cty.StringVal(string(b)), err
				},
			}),
		},
	}
	locals := load(t, "vault").block(t, "locals").Body
	files, diags := locals.Attributes["role_files"].Expr.Value(ctx)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	ctx.Variables["local"] = cty.ObjectVal(map[string]cty.Value{"role_files": files})
	roles, diags := locals.Attributes["roles"].Expr.Value(ctx)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return roles.AsValueMap()
}

func TestKeydGetsTheRolesThatItShips(t *testing.T) {
	for retire, files := range map[bool][]string{
		false: {"key-vault-role.json"},
		true:  {"key-vault-role.json", "key-vault-retire-role.json"},
	} {
		var want []string
		for _, file := range files {
			var shipped struct{ Name string }
			if err := json.Unmarshal([]byte(read(t, filepath.Join("../azure", file))), &shipped); err != nil {
				t.Fatal(err)
			}
			want = append(want, shipped.Name)
		}
		var is []string
		for _, role := range evaluated(t, retire) {
			if !role.Type().HasAttribute("Name") {
				t.Fatalf("%s is no role of a Key Vault", role.GoString())
			}
			is = append(is, role.GetAttr("Name").AsString())
		}
		slices.Sort(is)
		if !slices.Equal(is, want) {
			t.Errorf("with retire %t keyd gets the roles %v, not %v", retire, is, want)
		}
	}
}

// The definition takes each part of a role from the file, and the file has each of them.
func TestARoleIsDefinedAsItsFileSays(t *testing.T) {
	role := evaluated(t, false)["keyd"]
	definition := load(t, "vault").block(t, "azurerm_role_definition.keyd").Body
	permissions := only(t, definition, "permissions")
	for argument, field := range map[string]string{
		"name": "Name", "description": "Description", "actions": "Actions", "not_actions": "NotActions",
		"data_actions": "DataActions", "not_data_actions": "NotDataActions",
	} {
		body := permissions
		if argument == "name" || argument == "description" {
			body = definition
		}
		if is := refersTo(body, argument); !slices.Equal(is, []string{"each.value." + field}) {
			t.Errorf("%s is %v, not %s of the file", argument, is, field)
		}
		if !role.Type().HasAttribute(field) {
			t.Errorf("deploy/azure/key-vault-role.json has no %s", field)
		}
	}
}

func TestEveryAssignmentIsOnTheVaultAndIsWaitedFor(t *testing.T) {
	vault := load(t, "vault")
	builtIn := map[string]string{
		"azurerm_role_assignment.consumer": "Key Vault Crypto Service Encryption User",
		"azurerm_role_assignment.reader":   "Key Vault Reader",
		"azurerm_role_assignment.keyd":     "",
	}
	waits := map[string]bool{}
	for _, wait := range vault.typed("time_sleep") {
		if is := refersTo(wait.Body, "create_duration"); !slices.Equal(is, []string{"var.role_wait"}) {
			t.Errorf("%s waits for %v", address(wait), is)
		}
		for _, is := range refersTo(wait.Body, "triggers") {
			waits[strings.TrimSuffix(is, ".id")] = true
		}
	}
	assignments := vault.typed("azurerm_role_assignment")
	if len(assignments) != len(builtIn) {
		t.Errorf("%d assignments, not %d", len(assignments), len(builtIn))
	}
	for _, b := range assignments {
		if is := refersTo(b.Body, "scope"); !slices.Equal(is, []string{"azurerm_key_vault.keyd.id"}) {
			t.Errorf("%s is on %v, not on the vault alone", address(b), is)
		}
		if is := constant(t, b.Body, "role_definition_name"); is != builtIn[address(b)] {
			t.Errorf("%s is of the role %q", address(b), is)
		}
		if !waits[address(b)] {
			t.Errorf("nothing waits until %s takes effect", address(b))
		}
	}
	var shown []string
	for _, b := range vault.blocks {
		if b.Type == "output" {
			shown = append(shown, refersTo(b.Body, "depends_on")...)
		}
	}
	slices.Sort(shown)
	if !slices.Equal(shown, []string{"time_sleep.consumer", "time_sleep.keyd", "time_sleep.reader"}) {
		t.Errorf("the outputs wait for %v only", shown)
	}
}

// eachBody visits a body and every block in it.
func eachBody(body *hclsyntax.Body, fn func(*hclsyntax.Body)) {
	fn(body)
	for _, b := range body.Blocks {
		eachBody(b.Body, fn)
	}
}

func eachAttribute(body *hclsyntax.Body, fn func(*hclsyntax.Attribute)) {
	eachBody(body, func(b *hclsyntax.Body) {
		for _, a := range b.Attributes {
			fn(a)
		}
	})
}
