package consumer

import (
	"errors"
	neturl "net/url"
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
	deny := func(bypass *string, rules int) vaultProperties {
		return vaultProperties{Rules: &networkRules{Bypass: bypass, Default: ptr("Deny"),
			Ranges: make([]struct{}, rules)}}
	}
	trusts, none := ptr("AzureServices"), ptr("None")
	public := func(access string, p vaultProperties) vaultProperties {
		p.PublicAccess = &access
		return p
	}
	endpoint := deny(none, 0)
	endpoint.Endpoints = make([]struct{}, 1)
	allow := vaultProperties{Rules: &networkRules{Default: ptr("Allow"), Bypass: none}}
	for name, c := range map[string]struct {
		vault vaultProperties
		kind  string
		want  Outcome
		says  string
	}{
		"no rules":                   {vaultProperties{}, aCosmos, Right, "everybody"},
		"a default that allows":      {allow, aCosmos, Right, "everybody"},
		"trusted services":           {deny(trusts, 0), aStorage, Right, "trusted"},
		"trusted, not the public":    {public("Disabled", deny(trusts, 0)), aStorage, Right, "trusted"},
		"closed, no rules shown":     {public("Disabled", vaultProperties{}), aStorage, Right, "trusted"},
		"no bypass is named":         {deny(nil, 0), aStorage, Right, "trusted"},
		"nobody":                     {deny(none, 0), aStorage, Wrong, "nobody"},
		"addresses only":             {deny(none, 1), aStorage, Undecided, "rules"},
		"private endpoints only":     {endpoint, aStorage, Undecided, "private endpoints"},
		"a service not trusted":      {deny(trusts, 0), aCosmos, Undecided, "not on Microsoft's list"},
		"not trusted, with a rule":   {deny(trusts, 1), anAI, Undecided, "not on Microsoft's list"},
		"a perimeter around a vault": {public("SecuredByPerimeter", deny(trusts, 0)), aStorage, Undecided, "perimeter"},
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
	is := func(soft, purge *bool) vaultProperties {
		return vaultProperties{SoftDelete: soft, PurgeProtection: purge, Retention: ptr(90)}
	}
	for name, c := range map[string]struct {
		vault key.Vault
		is    vaultProperties
		want  Outcome
		says  string
	}{
		"both":                 {weuVault, is(on, on), Right, "90 days"},
		"purge protection off": {weuVault, is(on, nil), Wrong, "purge protection is off"},
		"taken back":           {weuVault, is(on, off), Wrong, "purge protection is off"},
		"soft delete off":      {weuVault, is(off, on), Wrong, "soft delete is off"},
		"soft delete unknown":  {weuVault, is(nil, on), Undecided, "does not show"},
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
		"no tenant is shown":             {aStorage, "westeurope", "", "westeurope", "T", Undecided, "the tenant"},
	} {
		f := judgePlace(of(t, c.kind), place{c.region, c.tenant}, place{c.vaultRegion, c.vaultTenant})
		wantFinding(t, name, f, c.want, c.says)
	}
}

func TestAConsumerIsSetToTheKeyAndFollowsIt(t *testing.T) {
	at := func(kind string) string { return "/subscriptions/s/resourceGroups/g/providers/" + kind + "/x" }
	set := func(vault, name, asked string) record.ConsumerSeen {
		return record.ConsumerSeen{Vault: vault, Key: name, Asked: asked, Follows: asked == ""}
	}
	broken := set(weuVault.URL, "cmk", "")
	broken.Err = trouble(at(aDisk), "mend it", "its rotation failed")
	own := record.ConsumerSeen{Err: trouble(at(aStorage), "", "it is Microsoft's")}
	version := strings.Repeat("a", 32)
	for name, c := range map[string]struct {
		kind   string
		seen   record.ConsumerSeen
		follow key.Follow
		want   Outcome
		says   string
		remedy string
	}{
		"it follows": {aStorage, set(weuVault.URL, "CMK", ""), "", Right, "follows new versions", ""},
		"it is pinned": {aStorage, set(weuVault.URL, "cmk", version), "", Wrong, "does not follow",
			`--encryption-key-name cmk --encryption-key-version ""`},
		"keyd moves it": {aStorage, set(weuVault.URL, "cmk", version), key.FollowKeyd, Right, "keyd moves it", ""},
		"another key": {aCosmos, set(weuVault.URL, "other", ""), "", Wrong, "/keys/other",
			"az cosmosdb update --name x --resource-group g --key-uri " + weuVault.URL + "/keys/cmk"},
		"another vault": {aStorage, set("https://x.vault.azure.net", "cmk", ""), "", Wrong,
			"https://x.vault.azure.net/keys/cmk", "--encryption-key-vault " + weuVault.URL},
		"it follows none": {aMySQL, set(weuVault.URL, "cmk", version), "", Undecided, "follows no new one",
			"follow: keyd"},
		"its service's own key": {aStorage, own, "", Wrong, "it is Microsoft's", "az storage account update"},
		"it says what is wrong": {aDisk, broken, "", Wrong, "its rotation failed", "mend it"},
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

func TestLooksThatFailForOneCauseHaveTheSame(t *testing.T) {
	failed := func(id string, e Error) string {
		e.What, e.ID = id, id
		return CauseOf(&e)
	}
	refused := func(url string) error { return &neturl.Error{Op: "Get", URL: url, Err: errors.New("refused")} }
	for name, same := range map[string]bool{
		"throttled":   failed("a", Error{Status: 429}) == failed("b", Error{Status: 429}),
		"broken":      failed("a", Error{Status: 503}) == failed("b", Error{Status: 503}),
		"no sign-in":  failed("a", Error{err: errors.New("x")}) == failed("b", Error{err: errors.New("x")}),
		"no answer":   failed("a", Error{err: refused("a")}) == failed("b", Error{err: refused("b")}),
		"no right":    failed("a", Error{Status: 403}) != failed("b", Error{Status: 403}),
		"two reasons": failed("a", Error{Status: 503}) != failed("a", Error{Status: 429}),
	} {
		if !same {
			t.Errorf("%s: wrong", name)
		}
	}
}
