package consumer

import (
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/service"
)

var (
	weuVault = key.Vault{Name: "weu", URL: "https://contoso-weu.vault.azure.net", Kind: key.KeyVault}
	hsmVault = key.Vault{Name: "hsm", URL: "https://contoso.managedhsm.azure.net", Kind: key.ManagedHSM}
)

func ptr[T any](v T) *T { return &v }

func of(t *testing.T, kind string) service.Service {
	t.Helper()
	s, ok := service.Of("/subscriptions/s/resourceGroups/g/providers/" + kind + "/x")
	if !ok {
		t.Fatalf("no service %s", kind)
	}
	return s
}

const (
	aStorage = "Microsoft.Storage/storageAccounts"
	aCosmos  = "Microsoft.DocumentDB/databaseAccounts"
	anAI     = "Microsoft.CognitiveServices/accounts"
	aMySQL   = "Microsoft.DBforMySQL/flexibleServers"
	aDisk    = "Microsoft.Compute/diskEncryptionSets"
)

func TestAVaultsNetworkLetsAServiceIn(t *testing.T) {
	deny := func(bypass *string, rules int) *networkRules {
		return &networkRules{Bypass: bypass, Default: ptr("Deny"), Ranges: make([]struct{}, rules)}
	}
	trusts, none, closed := ptr("AzureServices"), ptr("None"), ptr("Disabled")
	for name, c := range map[string]struct {
		vault vaultProperties
		kind  string
		want  Outcome
		says  string
	}{
		"no rules":                      {vaultProperties{}, aCosmos, Right, "everybody"},
		"a default that allows":         {vaultProperties{Rules: &networkRules{Default: ptr("Allow"), Bypass: none}}, aCosmos, Right, "everybody"},
		"trusted services":              {vaultProperties{Rules: deny(trusts, 0)}, aStorage, Right, "trusted"},
		"trusted, closed to the public": {vaultProperties{PublicAccess: closed, Rules: deny(trusts, 0)}, aStorage, Right, "trusted"},
		"closed, and no rules shown":    {vaultProperties{PublicAccess: closed}, aStorage, Right, "trusted"},
		"no bypass is named":            {vaultProperties{Rules: deny(nil, 0)}, aStorage, Right, "trusted"},
		"nobody":                        {vaultProperties{Rules: deny(none, 0)}, aStorage, Wrong, "nobody"},
		"addresses only":                {vaultProperties{Rules: deny(none, 1)}, aStorage, Undecided, "rules"},
		"private endpoints only":        {vaultProperties{Rules: deny(none, 0), Endpoints: make([]struct{}, 1)}, aStorage, Undecided, "private endpoints"},
		"a service that is not trusted": {vaultProperties{Rules: deny(trusts, 0)}, aCosmos, Undecided, "not on Microsoft's list"},
		"not trusted, with a rule":      {vaultProperties{Rules: deny(trusts, 1)}, anAI, Undecided, "not on Microsoft's list"},
		"a perimeter":                   {vaultProperties{PublicAccess: ptr("SecuredByPerimeter"), Rules: deny(trusts, 0)}, aStorage, Undecided, "perimeter"},
	} {
		f := judgeNetwork(weuVault, c.vault, of(t, c.kind))
		wantFinding(t, name, f, c.want, c.says)
	}
}

func wantFinding(t *testing.T, name string, f Finding, want Outcome, says string) {
	t.Helper()
	if f.Outcome != want || !strings.Contains(f.Detail, says) {
		t.Errorf("%s: %+v, want %d with %q", name, f, want, says)
	}
	if f.Outcome != Right && f.Remedy == "" {
		t.Errorf("%s: nothing is to be done: %+v", name, f)
	}
}

func TestAServiceWantsBothProtectionsAndAVaultWithAnHSM(t *testing.T) {
	on, off := ptr(true), ptr(false)
	for name, c := range map[string]struct {
		vault key.Vault
		is    vaultProperties
		want  Outcome
		says  string
	}{
		"both":                 {weuVault, vaultProperties{SoftDelete: on, PurgeProtection: on, Retention: ptr(90)}, Right, "90 days"},
		"purge protection off": {weuVault, vaultProperties{SoftDelete: on}, Wrong, "purge protection is off"},
		"taken back":           {weuVault, vaultProperties{SoftDelete: on, PurgeProtection: off}, Wrong, "purge protection is off"},
		"soft delete off":      {weuVault, vaultProperties{SoftDelete: off, PurgeProtection: on}, Wrong, "soft delete is off"},
		"soft delete unknown":  {weuVault, vaultProperties{PurgeProtection: on}, Undecided, "does not show"},
		"a Managed HSM":        {hsmVault, vaultProperties{PurgeProtection: on}, Right, "on"},
	} {
		wantFinding(t, name, judgeProtection(c.vault, c.is), c.want, c.says)
	}
	wantFinding(t, "premium", judgeKind(weuVault, vaultProperties{SKU: sku{ptr("Premium")}}), Right, "in an HSM")
	wantFinding(
		t,
		"standard",
		judgeKind(weuVault, vaultProperties{SKU: sku{ptr("standard")}}),
		Wrong,
		"no keys in an HSM",
	)
	wantFinding(t, "a new kind", judgeKind(weuVault, vaultProperties{}), Undecided, "does not know")
	wantFinding(t, "Managed HSM", judgeKind(hsmVault, vaultProperties{}), Right, "Managed HSM")
}

func TestTenantAndRegionMustFit(t *testing.T) {
	for name, c := range map[string]struct {
		kind, region, tenant, vaultRegion, vaultTenant string
		want                                           Outcome
		says                                           string
	}{
		"the same":                       {anAI, "West Europe", "T", "westeurope", "t", Right, "West Europe"},
		"another region":                 {anAI, "northeurope", "T", "westeurope", "T", Wrong, "its own region only"},
		"another region, which it takes": {aStorage, "northeurope", "T", "westeurope", "T", Right, "any region"},
		"another tenant":                 {aStorage, "westeurope", "T", "westeurope", "U", Wrong, "tenant T"},
		"no region is shown":             {aDisk, "", "T", "westeurope", "T", Undecided, "both regions"},
		"no tenant is shown":             {aStorage, "westeurope", "", "westeurope", "T", Undecided, "the tenant of both"},
	} {
		f := judgePlace(of(t, c.kind), place{c.region, c.tenant}, place{c.vaultRegion, c.vaultTenant})
		wantFinding(t, name, f, c.want, c.says)
	}
}

func TestAConsumerIsSetToTheKeyAndFollowsIt(t *testing.T) {
	at := func(kind string) string { return "/subscriptions/s/resourceGroups/g/providers/" + kind + "/x" }
	version := strings.Repeat("a", 32)
	for name, c := range map[string]struct {
		kind   string
		seen   record.ConsumerSeen
		follow key.Follow
		want   Outcome
		says   string
		remedy string
	}{
		"it follows":            {kind: aStorage, seen: record.ConsumerSeen{Vault: weuVault.URL, Key: "CMK", Follows: true}, says: "follows new versions"},
		"it is pinned":          {kind: aStorage, seen: record.ConsumerSeen{Vault: weuVault.URL, Key: "cmk", Asked: version}, want: Wrong, says: "does not follow", remedy: `--encryption-key-name cmk --encryption-key-version ""`},
		"keyd moves it":         {kind: aStorage, seen: record.ConsumerSeen{Vault: weuVault.URL, Key: "cmk", Asked: version}, follow: key.FollowKeyd, says: "keyd moves it"},
		"another key":           {kind: aCosmos, seen: record.ConsumerSeen{Vault: weuVault.URL, Key: "other", Follows: true}, want: Wrong, says: "/keys/other", remedy: "az cosmosdb update --name x --resource-group g --key-uri " + weuVault.URL + "/keys/cmk"},
		"another vault":         {kind: aStorage, seen: record.ConsumerSeen{Vault: "https://x.vault.azure.net", Key: "cmk", Follows: true}, want: Wrong, says: "https://x.vault.azure.net/keys/cmk", remedy: "--encryption-key-vault " + weuVault.URL},
		"it follows none":       {kind: aMySQL, seen: record.ConsumerSeen{Vault: weuVault.URL, Key: "cmk", Asked: version}, want: Undecided, says: "follows no new one", remedy: "follow: keyd"},
		"the service's own key": {kind: aStorage, seen: record.ConsumerSeen{Err: trouble(at(aStorage), "", "it encrypts under the service's own key")}, want: Wrong, says: "own key", remedy: "az storage account update"},
		"it says what is wrong": {kind: aDisk, seen: record.ConsumerSeen{Vault: weuVault.URL, Key: "cmk", Err: trouble(at(aDisk), "mend it", "its rotation failed")}, want: Wrong, says: "its rotation failed", remedy: "mend it"},
	} {
		c.seen.ID = at(c.kind)
		p := key.Policy{
			Key:       "cmk",
			Vaults:    []key.Vault{weuVault},
			Consumers: []key.Consumer{{ID: c.seen.ID, Follow: c.follow}},
		}
		f := judgeSetting(p, of(t, c.kind), c.seen)
		wantFinding(t, name, f, c.want, c.says)
		if !strings.Contains(f.Remedy, c.remedy) {
			t.Errorf("%s: the remedy lacks %q: %s", name, c.remedy, f.Remedy)
		}
	}
}

func TestAConsumerIsSetToTheVaultThatIsConfiguredForIt(t *testing.T) {
	id := "/subscriptions/s/resourceGroups/g/providers/" + aStorage + "/x"
	second := key.Vault{Name: "neu", URL: "https://contoso-neu.vault.azure.net", Kind: key.KeyVault}
	p := key.Policy{Key: "cmk", Vaults: []key.Vault{weuVault, second},
		Consumers: []key.Consumer{{ID: id, Vault: second.URL}}}
	seen := record.ConsumerSeen{ID: id, Vault: weuVault.URL, Key: "cmk", Follows: true}
	wantFinding(t, "the other vault", judgeSetting(p, of(t, aStorage), seen), Wrong, weuVault.URL)
	seen.Vault = second.URL
	wantFinding(t, "its vault", judgeSetting(p, of(t, aStorage), seen), Right, "follows")
	p.Consumers[0].Vault, seen.Vault = "", weuVault.URL
	wantFinding(t, "any vault", judgeSetting(p, of(t, aStorage), seen), Right, "follows")
}

// A scope that is not named itself goes by its account.
func TestAChildFollowsAsItsParentIsConfiguredTo(t *testing.T) {
	account := "/subscriptions/s/resourceGroups/g/providers/" + aStorage + "/x"
	p := key.Policy{Consumers: []key.Consumer{{ID: account, Follow: key.FollowKeyd},
		{ID: account + "/encryptionScopes/a", Follow: key.FollowService}}}
	for id, want := range map[string]key.Follow{
		strings.ToUpper(account): key.FollowKeyd, account + "/encryptionScopes/b": key.FollowKeyd,
		account + "/encryptionScopes/a": key.FollowService, account + "2": "",
	} {
		if got := configured(p, id).Follow; got != want {
			t.Errorf("%s: %q", id, got)
		}
	}
}
