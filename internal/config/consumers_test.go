package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/key"
)

const (
	group    = "/subscriptions/0000000a-0000-0000-0000-00000000000b/resourceGroups/rg/providers/"
	storage  = group + "Microsoft.Storage/storageAccounts/stcmk"
	registry = group + "Microsoft.ContainerRegistry/registries/acr"
	account  = group + "Microsoft.CognitiveServices/accounts/chat"
	server   = group + "Microsoft.Sql/servers/books"
	mysql    = group + "Microsoft.DBforMySQL/flexibleServers/shop"
	cosmos   = group + "Microsoft.DocumentDB/databaseAccounts/orders"

	guid = "0000000c-0000-0000-0000-00000000000d"

	resourceRemedy = "write the id that az prints (`az resource list --name NAME --query '[].id' -o tsv`): " +
		"/subscriptions/…/resourceGroups/…/providers/…"
	blindRemedy = "list under consumers the resources that encrypt under the key, or write azure.subscriptions, " +
		"or evidence: {workspace: ID} under the vault; if nothing in Azure encrypts under it, write consumers: none"
)

// consuming is a configuration with these fields of the key cmk, which is in a Key Vault and a Managed HSM.
func consuming(fields string) string { return base + fields }

// Each row is the fields of a key; « stands where the problem must point.
func TestEachMistakeAboutConsumersIsNamedWithPlaceAndRemedy(t *testing.T) {
	for _, m := range []struct{ name, fields, want string }{
		{"no list", "    consumers: «some\n",
			"keys.cmk.consumers is not a list; write none, or a list of resource ids, " +
				"each on a line of its own after a hyphen"},
		{"empty", "    consumers: «[]\n", "keys.cmk.consumers is empty; write a resource id, or consumers: none if " +
			"nothing in Azure encrypts under the key, or remove the field"},
		{"none in a list", "    consumers: [«none]\n", "keys.cmk.consumers: none stands in a list; write consumers: " +
			"none, without brackets and without other entries"},
		{"none beside a list", "    consumers:\n      - " + storage + "\n      - «none\n", "keys.cmk.consumers: none " +
			"stands in a list; write consumers: none, without brackets and without other entries"},
		{"a name", "    consumers: [«stcmk]\n", `keys.cmk.consumers: "stcmk" is not the id of a resource; ` +
			resourceRemedy},
		{"a URL", "    consumers: [«\"https://portal.azure.com/#x/resource" + storage + "\"]\n",
			`keys.cmk.consumers: "https://portal.azure.com/#x/resource` + storage +
				`" is a URL, and not the id of a resource; ` + resourceRemedy},
		{"a query", "    consumers: [«\"" + storage + "?x=1\"]\n", `keys.cmk.consumers: "` + storage +
			`?x=1" is not the id of a resource; ` + resourceRemedy},
		{"a path that climbs", "    consumers: [«\"" + group + "Microsoft.Storage/storageAccounts/..\"]\n",
			`keys.cmk.consumers: "` + group + `Microsoft.Storage/storageAccounts/.." is not the id of a resource; ` +
				resourceRemedy},
		{"a group", "    consumers: [«" + strings.TrimSuffix(group, "/providers/") + "]\n", `keys.cmk.consumers: "` +
			strings.TrimSuffix(group, "/providers/") + `" is not the id of a resource; ` + resourceRemedy},
		{"a subscription by its name", "    consumers: [«" + strings.Replace(storage, guid[:7]+"a", "prod", 1) + "]\n",
			`keys.cmk.consumers: "prod-0000-0000-0000-00000000000b" in the resource id is not the UUID of a ` +
				`subscription; ` + resourceRemedy},
		{"a slip in the type", "    consumers: [«" + group + "Microsoft.Storage/storageAcounts/stcmk]\n",
			"keys.cmk.consumers: keyd does not understand the type microsoft.storage/storageacounts; did you mean " +
				"microsoft.storage/storageaccounts?"},
		{"another type", "    consumers: [«" + group + "Microsoft.Web/sites/shop]\n",
			"keys.cmk.consumers: keyd does not understand the type microsoft.web/sites; write one of " +
				"microsoft.storage/storageaccounts, microsoft.storage/storageaccounts/encryptionscopes, " +
				"microsoft.documentdb/databaseaccounts, microsoft.cognitiveservices/accounts, " +
				"microsoft.compute/diskencryptionsets, microsoft.sql/servers, microsoft.sql/servers/databases, " +
				"microsoft.sql/managedinstances, " +
				"microsoft.containerregistry/registries, microsoft.eventhub/namespaces, " +
				"microsoft.dbforpostgresql/flexibleservers, microsoft.dbformysql/flexibleservers"},
		{"a child", "    spec: RSA-3072\n    consumers: [«" + server + "/elasticPools/pool]\n",
			"keys.cmk.consumers: keyd does not understand a microsoft.sql/servers/elasticpools alone; write the id " +
				"of the SQL server: " + server},
		{"twice", "    consumers: [" + storage + ", «" + strings.ToUpper(storage) + "]\n",
			"keys.cmk.consumers: storage account stcmk is already at keyd.yaml:15:17; remove one"},
		{"under two keys", "    consumers: [" + storage + "]\n  other: {vaults: [weu], consumers: [{id: «" +
			strings.ToLower(storage) + "}]}\n", "keys.other.consumers: storage account stcmk is already under key " +
			"cmk at keyd.yaml:15:17; keep it under the key that it is set to: a resource encrypts under one key"},
		{"unknown field", "    consumers: [{id: " + storage + ", «folow: keyd}]\n",
			"unknown field keys.cmk.consumers.folow; did you mean follow?"},
		{"no id", "    consumers: [{«follow: keyd}]\n", "keys.cmk.consumers.id is missing; " + resourceRemedy},
		{"follow", "    consumers: [{id: " + storage + ", follow: «me}]\n",
			`keys.cmk.consumers.follow: unknown value "me"; write one of service, keyd`},
		{"keyd cannot pin it", "    consumers: [{id: «" + cosmos + ", follow: keyd}]\n",
			"keys.cmk.consumers: follow: keyd makes no sense for Cosmos DB account orders: it cannot be set to one " +
				"version, and follows each new one by itself; write follow: service, or leave it out"},
		{"a key too large for an AI account", "    consumers: [«" + account + "]\n",
			"keys.cmk.consumers: AI services account chat takes RSA-2048 only, and the key is RSA-4096; write spec: " +
				"RSA-2048 for the key, or give the resource a key of its own"},
		{"a key too large for SQL", "    consumers: [«" + server + "]\n",
			"keys.cmk.consumers: SQL server books takes RSA-2048 and RSA-3072 only, and the key is RSA-4096; write " +
				"spec: RSA-2048 for the key, or give the resource a key of its own"},
		{"an expiry date under MySQL", "    expires_after: 150d\n    consumers: [«" + mysql + "]\n",
			"keys.cmk.consumers: MySQL flexible server shop refuses a key with an expiry date, and the key has " +
				"expires_after: 150d; write expires_after: never for the key, or give the resource a key of its own"},
		{"a key that cannot wrap", "    operations: [encrypt, decrypt]\n    consumers: [«" + storage + "]\n",
			"keys.cmk.consumers: storage account stcmk needs wrapKey and unwrapKey, which the key may not do; add " +
				"wrapKey and unwrapKey to operations, or give the resource a key of its own"},
		{"an AI account under a Managed HSM", "    spec: RSA-2048\n    consumers: [{id: «" + account +
			", vault: mhsm}]\n", "keys.cmk.consumers: AI services account chat takes keys in a Key Vault only, and " +
			"vault mhsm is a Managed HSM; give the resource a key in a Key Vault"},
		{"an unknown vault", "    consumers: [{id: " + storage + ", vault: «wue}]\n",
			"keys.cmk.consumers.vault: unknown vault wue; did you mean weu?"},
		{"a vault that the key is not in",
			"  other: {vaults: [weu], consumers: [{id: " + storage + ", vault: «mhsm}]}\n",
			"keys.other.consumers.vault: the key is not in vault mhsm, so nothing can use it " +
				"there; write one of the key's vaults, or add this one to them"},
		{"a rule, and nobody known", "    «retire: {disable_after: 90d}\n",
			"keys.cmk.retire: nothing tells keyd who still uses an old version of the key in vault weu; " +
				blindRemedy},
		{"no log to be quiet", "    consumers: none\n    «retire: {disable_after: 90d, unused_for: 30d}\n",
			"keys.cmk.retire.unused_for: none of the key's vaults has a workspace with its audit log; write " +
				"evidence: {workspace: ID} under a Key Vault, or leave unused_for out"},
		{"an unknown field of a rule", "    consumers: none\n    retire: {disable_after: 90d, «unusedfor: 30d}\n",
			"unknown field keys.cmk.retire.unusedfor; did you mean unused_for?"},
	} {
		t.Run(m.name, func(t *testing.T) {
			text, where := unmark(consuming(m.fields))
			wantProblems(t, text, where+": "+m.want)
		})
	}
}

func TestAListOfConsumersInTheDefaultsIsRefusedOnce(t *testing.T) {
	wantProblems(t, withDefaults("  vaults: [weu]\n  consumers: ["+storage+"]\n", "  a: {}\n  b: {}\n"),
		"keyd.yaml:13:14: defaults.consumers: a resource encrypts under one key, and the defaults are of all keys; "+
			"list the consumers under their key; here only none can stand")
}

func TestARuleOfTheDefaultsWithoutConsumersIsOneMistake(t *testing.T) {
	wantProblems(t, withDefaults("  vaults: [weu]\n  retire: {disable_after: 90d}\n", "  a: {}\n  b: {}\n"),
		"keyd.yaml:13:3: defaults.retire: nothing tells keyd who still uses an old version of the key in vault weu; "+
			blindRemedy)
}

func TestALogThatCoversOnlyOneVaultIsNotEnough(t *testing.T) {
	text := evident(consuming("    retire: {disable_after: 90d}\n"))
	wantProblems(t, text, "keyd.yaml:16:5: keys.cmk.retire: nothing tells keyd who still uses an old version of the "+
		"key in vault mhsm; "+strings.Replace(blindRemedy, ", or evidence: {workspace: ID} under the vault",
		" (keyd reads no log of a Managed HSM)", 1))
}

// evident gives the vault weu a workspace.
func evident(text string) string {
	return strings.Replace(text, "    url: https://contoso-weu.vault.azure.net\n",
		"    url: https://contoso-weu.vault.azure.net\n    evidence: {workspace: "+guid+"}\n", 1)
}

func searching(text string) string {
	return "azure: {subscriptions: [" + guid + "]}\n" + text
}

func TestARuleIsTakenWhereSomethingTellsWhoUsesTheKey(t *testing.T) {
	const rule = "    retire: {disable_after: 90d}\n"
	for name, text := range map[string]string{
		"a consumer":           consuming(rule + "    consumers: [" + storage + "]\n"),
		"the operator's word":  consuming(rule + "    consumers: none\n"),
		"a search":             searching(consuming(rule)),
		"the log of its vault": strings.Replace(evident(consuming(rule)), "[weu, mhsm]", "[weu]", 1),
	} {
		if p := mustLoad(t, text).Policies[0]; p.Retire.Never() ||
			p.Retire.NoConsumers != strings.Contains(text, "none") {
			t.Errorf("%s: the rule is %+v", name, p.Retire)
		}
	}
}

func TestALogMustBeQuietForAMonthUnlessTheRuleSaysOtherwise(t *testing.T) {
	const rule = "    consumers: none\n    retire: {disable_after: 90d}\n"
	if got := mustLoad(t, evident(consuming(rule))).Policies[0].Retire.UnusedFor; got != 30*24*time.Hour {
		t.Errorf("with a workspace: %s", got)
	}
	if got := mustLoad(t, consuming(rule)).Policies[0].Retire.UnusedFor; got != 0 {
		t.Errorf("without a workspace: %s", got)
	}
}

func TestAConsumerIsInTheVaultThatItNamesOrInTheOnlyOne(t *testing.T) {
	const mhsm = "https://contoso.managedhsm.azure.net"
	vaultOf := func(text string) string { return mustLoad(t, text).Policies[0].Consumers[0].Vault }
	if got := vaultOf(consuming("    consumers: [{id: " + storage + ", vault: MHSM}]\n")); got != mhsm {
		t.Errorf("it names its vault: %q", got)
	}
	text := consuming("    consumers: [" + storage + "]\n")
	if got := vaultOf(text); got != "" {
		t.Errorf("the key has two vaults: %q", got)
	}
	if got := vaultOf(strings.Replace(text, "[weu, mhsm]", "[mhsm]", 1)); got != mhsm {
		t.Errorf("the key has one vault: %q", got)
	}
}

// The rule itself differs then, and a consent is to one rule only.
func TestWhatKeydLooksAtBeforeADisablingIsPartOfTheRule(t *testing.T) {
	const rule = "    retire: {disable_after: 90d}\n    consumers: "
	both := evident(searching(consuming(rule + "[" + storage + ", " + registry + "]\n")))
	of := func(text string) key.RetireRule { return mustLoad(t, text).Policies[0].Retire }
	for name, other := range map[string]string{
		"a consumer less":       evident(searching(consuming(rule + "[" + storage + "]\n"))),
		"none":                  evident(searching(consuming(rule + "none\n"))),
		"no workspace":          searching(consuming(rule + "[" + storage + ", " + registry + "]\n")),
		"another workspace":     strings.Replace(both, "{workspace: "+guid, "{workspace: "+guid[:35]+"e", 1),
		"no search":             evident(consuming(rule + "[" + storage + ", " + registry + "]\n")),
		"another subscription":  strings.Replace(both, "["+guid, "["+guid[:35]+"e", 1),
		"a consumer in another": strings.Replace(both, "/stcmk", "/stother", 1),
	} {
		if of(both) == of(other) {
			t.Errorf("%s: the rule is the same", name)
		}
	}
	if same := strings.Replace(both, "["+storage+", "+registry+"]", "["+registry+", "+
		strings.ToUpper(storage)+"]", 1); of(both) != of(same) {
		t.Error("another order, or another case, makes another rule")
	}
	if got := of(consuming("    consumers: [" + storage + "]\n")); got != (key.RetireRule{}) {
		t.Errorf("a key that retires nothing has a rule: %+v", got)
	}
}

func TestWhoIsWatchedAndRepointedIsGuarded(t *testing.T) {
	text := evident(searching(consuming("    retire: {disable_after: 90d, unused_for: 40d, backups: 35d}\n" +
		"    consumers: [" + storage + ", {id: " + registry + ", follow: keyd}]\n" +
		"  other: {vaults: [weu], consumers: none}\n")))
	g := mustLoad(t, text).Guarded()
	for _, w := range []struct{ about, name, want string }{
		{"", "azure.subscriptions", guid},
		{"https://contoso-weu.vault.azure.net", "vaults.evidence.workspace", guid},
		{"https://contoso.managedhsm.azure.net", "vaults.evidence.workspace", ""},
		{"cmk", "keys.retire", "disable_after 2160h0m0s, pause 24h0m0s, unused_for 960h0m0s, backups 840h0m0s"},
		{"cmk", "keys.consumers", strings.ToLower(registry) + " (follow keyd), " + strings.ToLower(storage)},
		{"other", "keys.consumers", "declared: none"},
	} {
		if got := g[w.about][w.name]; got != w.want {
			t.Errorf("%s of %q: %q, want %q", w.name, w.about, got, w.want)
		}
	}
}

func TestConsumersAreShownByTheirNames(t *testing.T) {
	c, err := config.LoadToShow(write(t, map[string]string{"keyd.yaml": consuming(
		"    consumers: [" + storage + ", {follow: keyd, id: " + registry + "}]\n")}))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range c.Settings() {
		if s.Field == "keys.cmk.consumers" && s.Value == "[stcmk, acr]" && s.Line == 15 {
			return
		}
	}
	t.Errorf("the settings: %+v", c.Settings())
}

func TestMistakesOfWhereToSearchAreNamed(t *testing.T) {
	wantProblems(
		t,
		"azure: {subscriptions: []}\n"+base,
		"keyd.yaml:1:24: azure.subscriptions is empty; write the id of "+
			"a subscription (`az account list -o table` shows them), or remove the field",
	)
	wantProblems(t, "azure: {subscriptions: ["+guid+", "+strings.ToUpper(guid)+"]}\n"+base,
		"keyd.yaml:1:63: azure.subscriptions: "+guid+" appears twice; remove one")
	wantProblems(t, strings.Replace(evident(base), "{workspace: "+guid+"}", "{}", 1), "keyd.yaml:9:5: "+
		"vaults.weu.evidence.workspace is missing; write the workspace's id (`az monitor log-analytics workspace show "+
		"--query customerId`), or remove evidence")
	wantProblems(
		t,
		strings.Replace(evident(base), guid, "logs", 1),
		"keyd.yaml:9:27: vaults.weu.evidence.workspace: "+
			`"logs" is not a UUID; write an id such as 00000000-0000-0000-0000-000000000000`,
	)
}
