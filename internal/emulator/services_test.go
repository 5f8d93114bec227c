package emulator_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
)

const (
	accountID  = group + "Microsoft.Storage/storageAccounts/st"
	registryID = group + "Microsoft.ContainerRegistry/registries/acr"
	hubsID     = group + "Microsoft.EventHub/namespaces/ns"
	postgresID = group + "Microsoft.DBforPostgreSQL/flexibleServers/pg"
	mysqlID    = group + "Microsoft.DBforMySQL/flexibleServers/my"
	userID     = group + "Microsoft.ManagedIdentity/userAssignedIdentities/cmk-user"

	withUser = `"location":"westeurope","identity":{"type":"UserAssigned","userAssignedIdentities":{"` + userID +
		`":{}}},`
)

// servicesFollowAtTheirOwnPace tests a fact.
func servicesFollowAtTheirOwnPace(t *testing.T) {
	t.Helper()
	for spec, delay := range map[string]time.Duration{
		"scope=st/s": 24 * time.Hour, "sql=s": time.Hour, "sqlmi=s": time.Hour, "sqldb=s/d": time.Hour,
		"acr=s": time.Hour, "eventhubs=s": 5 * time.Minute, "postgres=s": 30 * time.Minute, "mysql=s": 0, "ai=s": 0,
		"storage=s": 24 * time.Hour, "cosmos=s": time.Hour,
	} {
		t.Run(spec, func(t *testing.T) {
			s := newEstate(t, emulator.Options{})
			v1 := s.rotate()
			s.make(spec+",key=KEY", spec+"pin,key=KEY/VERSION")
			name := spec[strings.Index(spec, "=")+1:]
			s.write(name, name+"pin")
			v2 := s.rotate()
			s.later(delay - time.Second)
			s.wantInUse(map[string]string{name: v1})
			s.later(time.Second)
			if delay == 0 {
				s.later(365 * 24 * time.Hour)
				v2 = v1
			}
			s.wantInUse(map[string]string{name: v2, name + "pin": v1})
			s.write(name, name+"pin")
			s.wantReadable()
			if r := s.report(name); r.Follows != (delay > 0) || r.Read < 2 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// databasesKeepBackups tests a fact.
// The backups of databases need the version under which they were taken; nobody else's data do.
func databasesKeepBackups(t *testing.T) {
	t.Helper()
	s := newEstate(t, emulator.Options{})
	v1 := s.rotate()
	s.make("sql=sql,key=KEY", "sqldb=sql/db,key=KEY", "sqlmi=mi,key=KEY", "postgres=pg,key=KEY", "scope=st/s,key=KEY",
		"acr=acr,key=KEY", "eventhubs=ns,key=KEY", "cosmos=db,key=KEY")
	g := newGeneric(t, s.Emulator)
	must(t, g.patch(s.report("db").ID, `{"properties":{"backupPolicy":{"type":"Continuous"}}}`))
	s.write("sql", "sql/db", "mi", "pg", "st/s", "acr", "ns", "db")
	s.rotate()
	s.later(24 * time.Hour)
	s.enable(v1, false)
	s.wantLost("KeyDisabled", "sql", "sql/db", "mi", "pg", "db")
	s.later(7 * 24 * time.Hour)
	s.wantLost("KeyDisabled", "db")
	s.later(23 * 24 * time.Hour)
	s.wantReadable()
}

func TestAnEncryptionScopeHasAKeyOfItsOwn(t *testing.T) {
	s := newEstate(t, emulator.Options{ResourcePage: 2})
	v1 := s.rotate()
	g := newGeneric(t, s.Emulator)
	scope := func(name string) string { return accountID + "/encryptionScopes/" + name }
	const properties = `{"properties":{"source":"Microsoft.KeyVault","keyVaultProperties":{"keyUri":"` + cmkURL + `"}}}`
	if err := g.put(scope("s1"), properties); err == nil || !strings.Contains(err.Error(), "ParentResourceNotFound") {
		t.Errorf("without an account: %v", err)
	}
	must(t, g.put(accountID, `{`+withIdentity+`"properties":{}}`))
	for _, name := range []string{"s1", "s2", "s3"} {
		must(t, g.put(scope(name), properties))
	}
	s.write("st", "st/s1")
	g.wantShown(scope("s1"), `"currentVersionedKeyIdentifier":"`+cmkURL+"/"+v1+`"`, `"keyUri":"`+cmkURL+`"`,
		`"lastKeyRotationTimestamp":"`, `"name":"s1"`)
	var listed []string
	header := bearer(token(t, managedIdentity(t, s.Emulator), "https://management.azure.com"))
	next := "https://management.azure.com" + accountID + "/encryptionScopes?api-version=" + anyVersion
	for next != "" {
		_, body := do(t, s.Emulator, "GET", next, header, "")
		var page struct {
			Value    []struct{ Name string }
			NextLink string
		}
		must(t, json.Unmarshal([]byte(body), &page))
		if len(page.Value) > 2 {
			t.Errorf("a page of %d", len(page.Value))
		}
		for _, v := range page.Value {
			listed = append(listed, v.Name)
		}
		next = page.NextLink
	}
	if fmt.Sprint(listed) != "[s1 s2 s3]" {
		t.Errorf("listed: %v", listed)
	}
	s.enable(v1, false)
	s.wantLost("KeyDisabled", "st/s1")
}

// A rule can be about one resource or about its children, and URLs can lead elsewhere.
func TestResourceManagerFailsForOneResource(t *testing.T) {
	s := newEstate(t, emulator.Options{ResourcePage: 1})
	s.rotate()
	s.make("storage=st,key=KEY", "scope=st/s1,key=KEY", "scope=st/s2,key=KEY", "storage=other,key=KEY")
	m := newManager(t, s.Emulator, rand.Text())
	id := s.report("st").ID
	s.Fail(emulator.Rule{Operation: "resource", Key: "st/encryptionScopes", Status: 403, Code: "AuthorizationFailed"})
	for path, want := range map[string]int{id: 200, id + "/encryptionScopes": 403, id + "/encryptionScopes/s1": 200,
		s.report("other").ID: 200} {
		if status, text := m.do("GET", path, ""); status != want {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	s.ClearFailures()
	s.Consumers().Misdirect("evil.example")
	_, text := m.do("GET", id+"/encryptionScopes", "")
	if !strings.Contains(text, `"nextLink":"https://evil.example/`) {
		t.Errorf("the next page is at %s", text)
	}
}

// patchesReplaceTheEncryption tests a fact.
// A PATCH with an incomplete body does not keep what it leaves out.
func patchesReplaceTheEncryption(t *testing.T) {
	t.Helper()
	s := newEstate(t, emulator.Options{})
	s.rotate()
	g := newGeneric(t, s.Emulator)
	must(t, g.put(accountID, `{`+withUser+`"properties":{"encryption":{"keySource":"Microsoft.Keyvault",`+
		`"identity":{"userAssignedIdentity":"`+userID+`"},"keyvaultproperties":{"keyvaulturi":"https://`+protected+
		`","keyname":"cmk"}}}}`))
	must(t, g.put(postgresID, `{`+withUser+`"properties":{"dataEncryption":{"type":"AzureKeyVault",`+
		`"primaryUserAssignedIdentityId":"`+userID+`","primaryKeyURI":"`+cmkURL+`"}}}`))
	for id, test := range map[string]struct{ properties, why string }{
		accountID: {`{"encryption":{"keyvaultproperties":{"keyvaulturi":"https://` + protected + `","keyname":"cmk"}}}`,
			"keySource is required"},
		accountID + "/": {`{"encryption":{"keySource":"Microsoft.Keyvault","keyvaultproperties":{"keyvaulturi":` +
			`"https://` + protected + `","keyname":"cmk"}}}`, "has no system-assigned identity"},
		postgresID: {`{"dataEncryption":{"type":"AzureKeyVault","primaryKeyURI":"` + cmkURL + `"}}`,
			"was not given the identity"},
		postgresID + "/": {`{"dataEncryption":{"primaryUserAssignedIdentityId":"` + userID + `","primaryKeyURI":"` +
			cmkURL + `"}}`, "type must be AzureKeyVault"},
	} {
		err := g.patch(strings.TrimSuffix(id, "/"), `{"properties":`+test.properties+`}`)
		if err == nil || !strings.Contains(err.Error(), test.why) {
			t.Errorf("%s: %v, want %q", test.properties, err, test.why)
		}
	}
	must(t, g.patch(accountID, `{"properties":{"encryption":{"keySource":"Microsoft.Storage"}}}`))
	if r := s.report("st"); r.Key != "" {
		t.Errorf("its own key again: %+v", r)
	}
}

func TestACognitiveServicesAccountHeedsItsETag(t *testing.T) {
	s := newEstate(t, emulator.Options{})
	s.rotate()
	s.make("ai=ai,key=KEY")
	id := "https://management.azure.com" + s.report("ai").ID + "?api-version=" + anyVersion
	header := bearer(token(t, managedIdentity(t, s.Emulator), "https://management.azure.com"))
	_, body := do(t, s.Emulator, "GET", id, header, "")
	var shown struct{ ETag string }
	must(t, json.Unmarshal([]byte(body), &shown))
	header.Set("If-Match", shown.ETag)
	for _, want := range []int{200, 412} { // the first changes it
		if res, body := do(t, s.Emulator, "PATCH", id, header, `{"tags":{"a":"b"}}`); res.StatusCode != want {
			t.Errorf("%d %s, want %d", res.StatusCode, body, want)
		}
	}
}

// servicesRefuseKeysFromElsewhere tests a fact.
func servicesRefuseKeysFromElsewhere(t *testing.T) {
	t.Helper()
	e := startVaults(t, emulator.Options{ConsumersByHand: true},
		emulator.VaultConfig{Host: protected, PurgeProtection: true, Location: "northeurope"},
		emulator.VaultConfig{Host: managedHSM, Profile: emulator.ManagedHSM, PurgeProtection: true})
	s := &estate{e, t, newClock(), e.Vault(protected)}
	foreign(t, e, protected, "cmk")
	foreign(t, e, managedHSM, "cmk")
	hsm := ",key=https://" + managedHSM + "/keys/cmk"
	for spec, why := range map[string]string{
		"ai=a1,key=KEY": "of its own region only", "disk=d1,key=KEY": "of its own region only",
		"storage=st1,key=KEY": "",
		"sql=s1,key=KEY":      "", "ai=a2" + hsm: "takes keys of a Key Vault only", "eventhubs=ns2" + hsm: "",
		"acr=acr2" + hsm: "", "mysql=my2" + hsm: "",
	} {
		if err := s.makeEarly(spec); (why == "") != (err == nil) || why != "" && !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q", spec, err, why)
		}
	}
}

func TestAContainerRegistryTakesAKeyOnlyWhenItIsMade(t *testing.T) {
	s := newEstate(t, emulator.Options{})
	v1 := s.rotate()
	g := newGeneric(t, s.Emulator)
	encryption := `"properties":{"encryption":{"status":"enabled","keyVaultProperties":{"keyIdentifier":"` + cmkURL +
		`"}}}}`
	must(t, g.put(registryID, `{`+withIdentity+encryption))
	s.write("acr")
	g.wantShown(registryID, `"versionedKeyIdentifier":"`+cmkURL+"/"+v1, `"keyRotationEnabled":true`)
	if err := g.patch(registryID, `{"properties":{"encryption":{"status":"disabled"}}}`); err == nil ||
		!strings.Contains(err.Error(), "cannot be taken away") {
		t.Errorf("taking the key away: %v", err)
	}
	must(t, g.put(registryID+"2", `{`+withIdentity+`"properties":{}}`))
	if err := g.patch(registryID+"2", `{`+encryption); err == nil ||
		!strings.Contains(err.Error(), "only when it is made") {
		t.Errorf("giving one later: %v", err)
	}
	s.wantReadable()
}

// slot is one of a namespace's keys.
func slot(name, version string) string {
	return fmt.Sprintf(`{"keyVaultUri":"https://%s","keyName":%q,"keyVersion":%q}`, protected, name, version)
}

func slots(keys ...string) string {
	return `"properties":{"encryption":{"keySource":"Microsoft.KeyVault","keyVaultProperties":[` +
		strings.Join(keys, ",") + `]}}}`
}

// namespacesHaveUpToThreeKeys tests a fact.
func namespacesHaveUpToThreeKeys(t *testing.T) {
	t.Helper()
	s := newEstate(t, emulator.Options{})
	v1 := s.rotate()
	foreign(t, s.Emulator, protected, "other")
	g := newGeneric(t, s.Emulator)
	must(t, g.put(hubsID, `{`+withIdentity+slots(slot("cmk", ""), slot("other", ""))))
	s.write("ns", "ns#2")
	if text := g.properties(hubsID); strings.Contains(text, v1) {
		t.Errorf("it shows a version in use: %s", text)
	}
	v2 := s.rotate()
	s.later(5 * time.Minute)
	s.wantInUse(map[string]string{"ns": v2})
	s.enable(v1, false)
	s.wantReadable()
	must(t, s.vault.SetEnabled("other", "", false))
	s.wantLost("KeyDisabled", "ns#2")
	must(t, s.vault.SetEnabled("other", "", true))
	four := []string{slot("cmk", ""), slot("cmk", ""), slot("cmk", ""), slot("cmk", "")}
	if err := g.patch(hubsID, `{`+slots(four...)); err == nil || !strings.Contains(err.Error(), "at most 3 keys") {
		t.Errorf("four keys: %v", err)
	}
	if err := g.patch(hubsID, `{`+slots()); err == nil || !strings.Contains(err.Error(), "needs keySource") {
		t.Errorf("no key: %v", err)
	}
	must(t, g.patch(hubsID, `{`+slots(slot("cmk", v2))))
	must(t, s.vault.SetEnabled("other", "", false))
	s.wantReadable() // what was under the other key has moved
	if r := s.report("ns"); r.Read != 2 || r.Follows {
		t.Errorf("%+v", r)
	}
	names := []string{}
	for _, c := range s.Consumers().ReadEverything(t.Context()).Consumers {
		names = append(names, c.Name)
	}
	if !slices.Equal(names, []string{"ns"}) {
		t.Errorf("consumers: %v", names)
	}
}

func TestAConsumerLagsAndLies(t *testing.T) {
	s := newEstate(t, emulator.Options{AdminListen: "127.0.0.1:0"})
	v1 := s.rotate()
	s.make("storage=st,key=KEY", "sql=sql,key=KEY")
	s.write("st", "sql")
	order := func(path string, want int) {
		t.Helper()
		if status, text := adminCall(t, s.Emulator, "POST", "/consumers/"+path, ""); status != want {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	order("st/pause", 204)
	v2 := s.rotate()
	s.later(48 * time.Hour)
	s.wantInUse(map[string]string{"st": v1, "sql": v2})
	order("st/claim?version="+v2, 204)
	order("sql/claim?version="+v1, 204)
	g := newGeneric(t, s.Emulator)
	g.wantShown(s.report("st").ID, `"currentVersionedKeyIdentifier":"`+cmkURL+"/"+v2)
	g.wantShown(s.report("sql").ID+"/encryptionProtector/current", `"uri":"`+cmkURL+"/"+v1)
	s.wantInUse(map[string]string{"st": v1, "sql": v2})
	order("st/pause?off=true", 204)
	order("st/claim", 204)
	s.later(24 * time.Hour)
	s.wantInUse(map[string]string{"st": v2})
	order("none/pause", 404)
	order("none/claim", 404)
}
