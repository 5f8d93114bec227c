package consumer_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/key"
)

const (
	thirdID  = "33330123456789abcdef0123456789ab"
	aiOne    = group + "Microsoft.CognitiveServices/accounts/ai-1"
	scopeOne = storage + "/encryptionScopes/own"
	diskOne  = group + "Microsoft.Compute/diskEncryptionSets/des-1"
	acrOne   = group + "Microsoft.ContainerRegistry/registries/acr1"
	hubsOne  = group + "Microsoft.EventHub/namespaces/eh-1"
	pgOne    = group + "Microsoft.DBforPostgreSQL/flexibleServers/pg-1"
	myOne    = group + "Microsoft.DBforMySQL/flexibleServers/my-1"
	sqlOne   = group + "Microsoft.Sql/servers/sql-1"
	sqlTwo   = group + "Microsoft.Sql/servers/sql-2"
	dbOne    = sqlOne + "/databases/db-1"
	miOne    = group + "Microsoft.Sql/managedInstances/mi-1"
)

// movable is a resource that is set to one version. In its answers, NOW is the version that it is set to.
type movable struct {
	id      string
	answers map[string]string
	calls   []string // GETs, and "METHOD path [If-Match] body"
}

const protectorCurrent = `"properties":{"serverKeyName":"contoso-weu_cmk_NOW","serverKeyType":"AzureKeyVault",
	"uri":"WEU/keys/cmk/NOW","autoRotationEnabled":false}}`

// movables has one resource of each service. What keyd does not know of them, x, goes along where it must.
func movables() map[string]movable {
	short := func(id string) string { return strings.TrimPrefix(id, group) }
	get := func(id string) string { return "GET " + short(id) }
	flex := func(id string) movable {
		return movable{id, map[string]string{id: `{"id":"` + id + `","identity":{"type":"UserAssigned",
			"userAssignedIdentities":{"UAMI":{"principalId":"USER","clientId":"CLIENT"}}},"properties":{"state":"Ready",
			"version":"16","dataEncryption":{"type":"AzureKeyVault","primaryKeyURI":"WEU/keys/cmk/NOW",
			"primaryUserAssignedIdentityId":"UAMI","geoBackupKeyURI":"NEU/keys/cmk/OLD",
			"geoBackupUserAssignedIdentityId":"UAMI","primaryEncryptionKeyStatus":"Valid"}}}`},
			[]string{
				get(id),
				"PATCH " + short(id) + ` {"identity":{"type":"UserAssigned","userAssignedIdentities":{` +
					`"UAMI":{}}},"properties":{"dataEncryption":{"geoBackupKeyURI":"NEU/keys/cmk/OLD",` +
					`"geoBackupUserAssignedIdentityId":"UAMI","primaryKeyURI":"WEU/keys/cmk/NEW",` +
					`"primaryUserAssignedIdentityId":"UAMI","type":"AzureKeyVault"}}}`,
				get(id),
			}}
	}
	return map[string]movable{
		"storage account": {storage, map[string]string{storage: `{"id":"` + storage + `",` + identity + `,
			"properties":{"provisioningState":"Succeeded","accessTier":"Hot","encryption":{"requireInfra":true,
			"services":{"blob":{"enabled":true}},"keySource":"Microsoft.Keyvault",
			"identity":{"userAssignedIdentity":"UAMI"},"keyvaultproperties":{"keyvaulturi":"WEU/","keyname":"cmk",
			"keyversion":"NOW","currentVersionedKeyIdentifier":"WEU/keys/cmk/NOW",
			"lastKeyRotationTimestamp":"2026-11-20T08:30:00Z"}}}}`},
			[]string{get(storage), "PATCH " + short(storage) + ` {"properties":{"encryption":{"identity":{` +
				`"userAssignedIdentity":"UAMI"},"keySource":"Microsoft.Keyvault","keyvaultproperties":{` +
				`"keyname":"cmk","keyvaulturi":"WEU/","keyversion":"NEW"},"requireInfra":true,` +
				`"services":{"blob":{"enabled":true}}}}}`,
				get(storage)}},
		"encryption scope": {scopeOne, map[string]string{scopeOne: `{"id":"` + scopeOne + `","properties":{
			"source":"Microsoft.KeyVault","state":"Disabled","creationTime":"2026-01-01T00:00:00Z",
			"keyVaultProperties":{"keyUri":"WEU/keys/cmk/NOW","currentVersionedKeyIdentifier":"WEU/keys/cmk/NOW"}}}`},
			[]string{get(scopeOne), "PATCH " + short(scopeOne) + ` {"properties":{"keyVaultProperties":{` +
				`"keyUri":"WEU/keys/cmk/NEW"},"source":"Microsoft.KeyVault","state":"Disabled"}}`, get(scopeOne)}},
		"AI services account": {
			aiOne,
			map[string]string{aiOne: `{"id":"` + aiOne + `","etag":"\"7\"",` + identity + `,
			"properties":{"provisioningState":"Succeeded","endpoint":"x","encryption":{
			"keySource":"Microsoft.KeyVault","keyVaultProperties":{"keyVaultUri":"WEU","keyName":"cmk",
			"keyVersion":"NOW","identityClientId":"CLIENT"}}}}`},
			[]string{get(aiOne), "PATCH " + short(aiOne) + ` If-Match "7" {"properties":{"encryption":{` +
				`"keySource":"Microsoft.KeyVault","keyVaultProperties":{"identityClientId":"CLIENT","keyName":"cmk",` +
				`"keyVaultUri":"WEU","keyVersion":"NEW"}}}}`, get(aiOne)},
		},
		"disk encryption set": {diskOne, map[string]string{diskOne: `{"id":"` + diskOne + `",` + identity + `,
			"properties":{"provisioningState":"Succeeded","activeKey":{"keyUrl":"WEU/keys/cmk/NOW","sourceVault":{
			"id":"/subscriptions/SUB/x"}},"previousKeys":[],"encryptionType":"EncryptionAtRestWithCustomerKey"}}`},
			[]string{get(diskOne), "PATCH " + short(diskOne) + ` {"properties":{"activeKey":{` +
				`"keyUrl":"WEU/keys/cmk/NEW","sourceVault":{"id":"/subscriptions/SUB/x"}},` +
				`"encryptionType":"EncryptionAtRestWithCustomerKey"}}`, get(diskOne)}},
		"disk encryption set, and a vault in another subscription": {diskOne, map[string]string{diskOne: `{
			"id":"` + diskOne + `",` + identity + `,"properties":{"activeKey":{"keyUrl":"WEU/keys/cmk/NOW",
			"sourceVault":{"id":"/subscriptions/other/x"}},"rotationToLatestKeyVersionEnabled":false}}`},
			[]string{get(diskOne), "PATCH " + short(diskOne) + ` {"properties":{"activeKey":{` +
				`"keyUrl":"WEU/keys/cmk/NEW"},"rotationToLatestKeyVersionEnabled":false}}`, get(diskOne)}},
		"container registry": {acrOne, map[string]string{acrOne: `{"id":"` + acrOne + `",` + identity + `,
			"properties":{"provisioningState":"Succeeded","encryption":{"status":"enabled","keyVaultProperties":{
			"keyIdentifier":"WEU/keys/cmk/NOW","versionedKeyIdentifier":"WEU/keys/cmk/NOW","identity":"CLIENT",
			"keyRotationEnabled":false}}}}`},
			[]string{get(acrOne), "PATCH " + short(acrOne) + ` {"properties":{"encryption":{"keyVaultProperties":{` +
				`"identity":"CLIENT","keyIdentifier":"WEU/keys/cmk/NEW"},"status":"enabled"}}}`, get(acrOne)}},
		"Event Hubs namespace": {hubsOne, map[string]string{hubsOne: `{"id":"` + hubsOne + `",` + identity + `,
			"properties":{"provisioningState":"Succeeded","encryption":{"keySource":"Microsoft.KeyVault","x":1.50,
			"keyVaultProperties":[
			{"keyName":"other","keyVaultUri":"WEU","keyVersion":"OLD"},
			{"keyName":"cmk","keyVaultUri":"WEU","keyVersion":"NOW","identity":{"userAssignedIdentity":"UAMI"}},
			{"keyName":"cmk","keyVaultUri":"NEU","keyVersion":"OLD"}]}}}`},
			[]string{get(hubsOne), "PATCH " + short(hubsOne) + ` {"properties":{"encryption":{` +
				`"keySource":"Microsoft.KeyVault","keyVaultProperties":[` +
				`{"keyName":"other","keyVaultUri":"WEU","keyVersion":"OLD"},` +
				`{"identity":{"userAssignedIdentity":"UAMI"},"keyName":"cmk","keyVaultUri":"WEU","keyVersion":"NEW"},` +
				`{"keyName":"cmk","keyVaultUri":"NEU","keyVersion":"OLD"}],"x":1.50}}}`, get(hubsOne)}},
		"PostgreSQL flexible server": flex(pgOne),
		"MySQL flexible server":      flex(myOne),
		"SQL server": {sqlOne, map[string]string{
			sqlOne + "/encryptionProtector/current": `{"id":"` + sqlOne + `/encryptionProtector/current",` +
				protectorCurrent,
			sqlOne + "/keys":           `{"value":[]}`,
			sqlTwo + "/keys":           `{"value":[]}`,
			sqlOne + "/failoverGroups": `{"value":[]}`,
			sqlOne + "/replicationLinks": `{"value":[{"id":"x","properties":{"partnerDatabaseId":"` + sqlTwo +
				`/databases/a"}},{"id":"y","properties":{"partnerDatabaseId":"` + sqlTwo + `/databases/b"}}]}`},
			[]string{get(sqlOne + "/encryptionProtector/current"), get(sqlOne + "/failoverGroups"),
				get(sqlOne + "/replicationLinks"), get(sqlTwo + "/keys"),
				"PUT " + short(sqlTwo) + `/keys/contoso-weu_cmk_NEW {"properties":{"serverKeyType":"AzureKeyVault",` +
					`"uri":"WEU/keys/cmk/NEW"}}`,
				get(sqlOne + "/keys"),
				"PUT " + short(sqlOne) + `/keys/contoso-weu_cmk_NEW {"properties":{"serverKeyType":"AzureKeyVault",` +
					`"uri":"WEU/keys/cmk/NEW"}}`,
				"PUT " + short(sqlOne) + `/encryptionProtector/current {"properties":{"autoRotationEnabled":false,` +
					`"serverKeyName":"contoso-weu_cmk_NEW","serverKeyType":"AzureKeyVault"}}`,
				get(sqlOne + "/encryptionProtector/current")}},
		"SQL managed instance": {miOne, map[string]string{
			miOne: `{"id":"` + miOne + `","location":"westeurope","properties":{}}`,
			miOne + "/encryptionProtector/current": `{"id":"` + miOne + `/encryptionProtector/current",` +
				protectorCurrent,
			miOne + "/keys": `{"value":[{"id":"` + miOne + `/keys/contoso-weu_cmk_NEW","properties":{
				"serverKeyType":"AzureKeyVault","uri":"WEU/keys/cmk/NEW"}}]}`,
			group + "Microsoft.Sql/locations/westeurope/instanceFailoverGroups": `{"value":[]}`},
			[]string{get(miOne + "/encryptionProtector/current"), get(miOne),
				"GET Microsoft.Sql/locations/westeurope/instanceFailoverGroups", get(miOne + "/keys"),
				"PUT " + short(miOne) + `/encryptionProtector/current {"properties":{"autoRotationEnabled":false,` +
					`"serverKeyName":"contoso-weu_cmk_NEW","serverKeyType":"AzureKeyVault"}}`,
				get(miOne + "/encryptionProtector/current")}},
		"SQL database": {dbOne, map[string]string{dbOne: `{"id":"` + dbOne + `","identity":{"type":"UserAssigned",
			"userAssignedIdentities":{"UAMI":{"principalId":"USER"}}},"sku":{"name":"S0"},"properties":{
			"status":"Online","encryptionProtector":"WEU/keys/cmk/NOW","encryptionProtectorAutoRotation":false,
			"keys":{"WEU/keys/cmk/OLD":{"type":"AzureKeyVault","thumbprint":"00"}}}}`},
			[]string{get(dbOne), "PATCH " + short(dbOne) + ` {"identity":{"type":"UserAssigned",` +
				`"userAssignedIdentities":{"UAMI":{}}},"properties":{"encryptionProtector":"WEU/keys/cmk/NEW",` +
				`"encryptionProtectorAutoRotation":false,"keys":{"WEU/keys/cmk/OLD":{},"WEU/keys/cmk/NEW":{}}}}`,
				get(dbOne)}},
	}
}

// moving is a resource behind Resource Manager, and everything that is sent there.
type moving struct {
	*cloud
	t *testing.T
	m movable
	// write answers a change; nil: it takes effect at once.
	write func(*http.Request) *http.Response
	log   []string
}

func newMoving(t *testing.T, m movable) *moving {
	t.Helper()
	v := &moving{cloud: newCloud(nil), t: t, m: m}
	v.use(oldID)
	v.hook = func(r *http.Request) *http.Response {
		entry := r.Method + " " + strings.TrimPrefix(r.URL.Path, group)
		if r.Method != http.MethodGet {
			body, err := io.ReadAll(r.Body)
			if err != nil || !json.Valid(body) {
				t.Errorf("%s: the body %q: %v", entry, body, err)
			}
			if etag := r.Header.Get("If-Match"); etag != "" {
				entry += " If-Match " + etag
			}
			entry += " " + string(body)
		}
		v.log = append(v.log, entry)
		switch {
		case r.Method == http.MethodGet:
			return nil
		case v.write != nil:
			return v.write(r)
		case !strings.Contains(r.URL.Path, "/keys/"):
			v.use(newID)
		}
		return answer(r, http.StatusOK, `{}`)
	}
	return v
}

// use makes the resource show a version.
func (v *moving) use(version string) {
	for path, body := range v.m.answers {
		v.set(path, strings.ReplaceAll(body, "NOW", version))
	}
}

func (v *moving) repoint() error {
	return clientOf(
		v.t,
		v.cloud,
	).Repoint(v.t.Context(), consumer.Move{ID: v.m.id, Vault: weu, Key: "cmk", From: oldID,
		Version: newID})
}

// changes lists the methods of the calls that change something.
func (v *moving) changes() (methods []string) {
	for _, entry := range v.log {
		if method, _, _ := strings.Cut(entry, " "); method != http.MethodGet {
			methods = append(methods, method)
		}
	}
	return methods
}

func TestEachServiceIsMovedByItsOwnCalls(t *testing.T) {
	for name, m := range movables() {
		t.Run(name, func(t *testing.T) {
			v := newMoving(t, m)
			if err := v.repoint(); err != nil {
				t.Fatal(err)
			}
			var want []string
			for _, entry := range m.calls {
				want = append(want, fill.Replace(entry))
			}
			if diff := cmp.Diff(want, v.log); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}

// What is not set to the version that the move starts from is not touched.
func TestNothingIsSentUnlessTheResourceShowsWhereTheMoveStarts(t *testing.T) {
	for name, m := range movables() {
		t.Run(name, func(t *testing.T) {
			v := newMoving(t, m)
			v.use(thirdID)
			err := v.repoint()
			wantErr(t, err, "is not set to version "+oldID, thirdID)
			if len(v.changes()) > 0 || key.ClassOf(err) != key.Refused {
				t.Errorf("sent %q, %s", v.changes(), key.ClassOf(err))
			}
		})
	}
}

func TestAResourceThatSomebodyElseMovedIsNotMovedAgain(t *testing.T) {
	for name, m := range movables() {
		v := newMoving(t, m)
		v.use(newID)
		if err := v.repoint(); err != nil || len(v.log) != 1 {
			t.Errorf("%s: %v after %q", name, err, v.log)
		}
	}
}

// However the answer is broken, keyd sends nothing but the calls of the service's sequence, with the new version.
func TestABrokenAnswerNeverMakesKeydChangeAnythingElse(t *testing.T) {
	for name, m := range movables() {
		t.Run(name, func(t *testing.T) {
			for path := range m.answers {
				synctest.Test(t, func(t *testing.T) { breakEach(t, m, path) })
			}
		})
	}
}

func breakEach(t *testing.T, m movable, path string) {
	t.Helper()
	known := map[string]bool{} // "METHOD path"
	for _, entry := range m.calls {
		words := strings.Fields(fill.Replace(entry))
		known[words[0]+" "+words[1]] = true
	}
	whole := mustJSON(t, fill.Replace(strings.ReplaceAll(m.answers[path], "NOW", oldID)))
	spoiled(whole, func(where string, whole any) {
		text, err := json.Marshal(whole)
		if err != nil {
			t.Fatal(err)
		}
		v := newMoving(t, m)
		v.set(path, string(text))
		if err := v.repoint(); err == nil && len(v.changes()) == 0 {
			t.Errorf("%s: keyd sent nothing, and says that it moved", where)
		}
		for _, entry := range v.log {
			method, rest, _ := strings.Cut(entry, " ")
			to, body, _ := strings.Cut(rest, " ")
			if method != http.MethodGet && (!known[method+" "+to] || !strings.Contains(body, newID)) {
				t.Errorf("%s: keyd sent %s", where, entry)
			}
		}
	})
}
