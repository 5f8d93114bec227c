package consumer_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/service"
)

// identity is a resource's identities, its own and uami.
const identity = `"identity":{"type":"SystemAssigned, UserAssigned","principalId":"SYSTEM","tenantId":"T",
	"userAssignedIdentities":{"UAMI":{"principalId":"USER","clientId":"CLIENT"}}}`

// sample is one resource, as Resource Manager shows it, and what keyd makes of it.
type sample struct {
	id      string
	answers map[string]string
	want    []record.ConsumerSeen
	calls   int
}

var rotated = time.Date(2026, 11, 20, 8, 30, 0, 0, time.UTC)

// samples has one resource of each service.
func samples() map[string]sample {
	server, partner := group+"Microsoft.Sql/servers/sql-1", group+"Microsoft.Sql/servers/sql-2"
	instance := group + "Microsoft.Sql/managedInstances/mi-1"
	return map[string]sample{
		"storage account": {
			id: storage, calls: 2,
			answers: map[string]string{
				storage: `{"id":"` + storage + `","name":"stcmkdemo","type":"Microsoft.Storage/storageAccounts",
					"location":"westeurope",` + identity + `,"properties":{"provisioningState":"Succeeded",
					"encryption":{"services":{"blob":{"enabled":true,"keyType":"Account"}},
					"keySource":"Microsoft.Keyvault","identity":{"userAssignedIdentity":"UAMI"},
					"keyvaultproperties":{"keyvaulturi":"WEU/","keyname":"cmk","keyversion":"",
					"currentVersionedKeyIdentifier":"WEU/keys/cmk/NEW",
					"lastKeyRotationTimestamp":"2026-11-20T08:30:00.0000000Z"}}}}`,
				storage + "/encryptionScopes": `{"value":[
					{"id":"` + storage + `/encryptionScopes/own","properties":{"source":"Microsoft.KeyVault",
					"state":"Disabled","keyVaultProperties":{"keyUri":"WEU/keys/cmk/OLD",
					"currentVersionedKeyIdentifier":"WEU/keys/cmk/OLD"}}},
					{"id":"` + storage + `/encryptionScopes/msft","properties":{"source":"Microsoft.Storage",
					"state":"Enabled"}}]}`,
			},
			want: []record.ConsumerSeen{
				{ID: storage, Service: "storage account", Configured: true, Vault: weu, Key: "cmk", Uses: newID,
					Follows: true, Since: rotated, Callers: []string{user}},
				{ID: storage + "/encryptionScopes/own", Service: "encryption scope", Configured: true, Vault: weu,
					Key: "cmk", Asked: oldID, Uses: oldID, Since: today, Callers: []string{user}},
			},
		},
		"encryption scope": {
			id: storage + "/encryptionScopes/own", calls: 2,
			answers: map[string]string{
				storage: `{"id":"` + storage + `",` + identity + `,"properties":{"encryption":{
					"keySource":"Microsoft.Storage"}}}`,
				storage + "/encryptionScopes/own": `{"id":"` + storage + `/encryptionScopes/own","properties":{
					"source":"Microsoft.KeyVault","state":"Enabled","keyVaultProperties":{"keyUri":"WEU/keys/cmk",
					"currentVersionedKeyIdentifier":"WEU/keys/cmk/NEW",
					"lastKeyRotationTimestamp":"2026-11-20T08:30:00Z"}}}`,
			},
			want: []record.ConsumerSeen{{ID: storage + "/encryptionScopes/own", Service: "encryption scope",
				Configured: true, Vault: weu, Key: "cmk", Uses: newID, Follows: true, Since: rotated,
				Callers: []string{system}}},
		},
		"Cosmos DB account": {
			id: cosmos, calls: 1,
			answers: map[string]string{cosmos: `{"id":"` + cosmos + `","kind":"GlobalDocumentDB",` + identity + `,
				"properties":{"provisioningState":"Succeeded","keyVaultKeyUri":"WEU:443/keys/CMK",
				"keyVaultKeyUriVersion":"NEW","defaultIdentity":"UserAssignedIdentity=UAMI",
				"customerManagedKeyStatus":"Access to the configured customer managed key confirmed."}}`},
			want: []record.ConsumerSeen{{ID: cosmos, Service: "Cosmos DB account", Configured: true, Vault: weu,
				Key: "cmk", Uses: newID, Follows: true, Since: today, Callers: []string{user}}},
		},
		"AI services account": {
			id: group + "Microsoft.CognitiveServices/accounts/ai-1", calls: 1,
			answers: map[string]string{group + "Microsoft.CognitiveServices/accounts/ai-1": `{
				"id":"GROUP/Microsoft.CognitiveServices/accounts/ai-1",` + identity + `,"properties":{
				"provisioningState":"Succeeded","encryption":{"keySource":"Microsoft.KeyVault",
				"keyVaultProperties":{"keyVaultUri":"WEU","keyName":"cmk","keyVersion":"OLD",
				"identityClientId":"CLIENT"}}}}`},
			want: []record.ConsumerSeen{{ID: group + "Microsoft.CognitiveServices/accounts/ai-1",
				Service: "AI services account", Configured: true, Vault: weu, Key: "cmk", Asked: oldID, Uses: oldID,
				Since: today, Callers: []string{user}}},
		},
		"disk encryption set": {
			id: group + "Microsoft.Compute/diskEncryptionSets/des-1", calls: 1,
			answers: map[string]string{group + "Microsoft.Compute/diskEncryptionSets/des-1": `{
				"id":"GROUP/Microsoft.Compute/diskEncryptionSets/des-1",` + identity + `,"properties":{
				"activeKey":{"keyUrl":"WEU/keys/cmk/NEW","sourceVault":{"id":"x"}},
				"previousKeys":[{"keyUrl":"WEU/keys/cmk/OLD"},{"keyUrl":"WEU/keys/other/OLD"}],
				"encryptionType":"EncryptionAtRestWithCustomerKey","provisioningState":"Succeeded",
				"rotationToLatestKeyVersionEnabled":true,"lastKeyRotationTimestamp":"2026-11-20T08:30:00Z"}}`},
			want: []record.ConsumerSeen{{ID: group + "Microsoft.Compute/diskEncryptionSets/des-1",
				Service: "disk encryption set", Configured: true, Vault: weu, Key: "cmk", Uses: newID, Follows: true,
				Since: rotated, Needs: []string{oldID}, Callers: []string{system}}},
		},
		"SQL server": {
			id: server, calls: 13,
			answers: map[string]string{
				server: `{"id":"` + server + `",` + identity + `,"location":"westeurope","properties":{
					"state":"Ready","primaryUserAssignedIdentityId":"UAMI"}}`,
				server + "/encryptionProtector/current": `{"id":"` + server + `/encryptionProtector/current",
					"kind":"azurekeyvault","properties":{"serverKeyName":"contoso-weu_cmk_NEW",
					"serverKeyType":"AzureKeyVault","uri":"WEU/keys/cmk/NEW","autoRotationEnabled":true}}`,
				server + "/keys": `{"value":[{"id":"` + server + `/keys/ServiceManaged",
					"properties":{"serverKeyType":"ServiceManaged"}},
					{"id":"` + server + `/keys/contoso-weu_cmk_NEW","properties":{"serverKeyType":"AzureKeyVault",
					"uri":"WEU/keys/cmk/NEW"}},
					{"id":"` + server + `/keys/contoso-weu_cmk_OLD","properties":{"serverKeyType":"AzureKeyVault",
					"uri":"WEU/keys/cmk/OLD"}}]}`,
				server + "/databases": `{"value":[
					{"id":"` + server + `/databases/master","properties":{"status":"Online"}},
					{"id":"` + server + `/databases/db-1","identity":{"type":"UserAssigned",
					"userAssignedIdentities":{"UAMI":{"principalId":"USER","clientId":"CLIENT"}}},
					"properties":{"status":"Online","encryptionProtector":"WEU/keys/cmk/OLD"}}]}`,
				server + "/databases/db-1": `{"id":"` + server + `/databases/db-1","identity":{"type":"UserAssigned",
					"userAssignedIdentities":{"UAMI":{"principalId":"USER","clientId":"CLIENT"}}},
					"properties":{"encryptionProtector":"WEU/keys/cmk/OLD","encryptionProtectorAutoRotation":false,
					"keys":{"NEU/keys/cmk/NEW":{"type":"AzureKeyVault","thumbprint":"00"}}}}`,
				server + "/failoverGroups": `{"value":[{"id":"` + server + `/failoverGroups/fg","properties":{
					"partnerServers":[{"id":"` + partner + `","replicationRole":"Secondary"}]}}]}`,
				server + "/replicationLinks": `{"value":[{"id":"` + server + `/databases/a/replicationLinks/1",
					"properties":{"partnerServer":"sql-2","partnerDatabase":"a","role":"Primary","linkType":"GEO",
					"partnerDatabaseId":"` + partner + `/databases/a"}}]}`,
				partner: `{"id":"` + partner + `",` + identity + `,"properties":{"state":"Ready"}}`,
				partner + "/encryptionProtector/current": `{"id":"` + partner + `/encryptionProtector/current",
					"properties":{"serverKeyType":"AzureKeyVault","uri":"NEU/keys/cmk/OLD"}}`,
				partner + "/keys":             `{"value":[]}`,
				partner + "/databases":        `{"value":[]}`,
				partner + "/failoverGroups":   `{"value":[]}`,
				partner + "/replicationLinks": `{"value":[]}`,
			},
			want: []record.ConsumerSeen{
				{
					ID:         server,
					Service:    "SQL server",
					Configured: true,
					Vault:      weu,
					Key:        "cmk",
					Uses:       newID,
					Follows:    true,
					Since:      today,
					Needs:      []string{oldID},
					Callers:    []string{user},
				},
				{ID: server + "/databases/db-1", Service: "SQL database", Configured: true, Vault: weu, Key: "cmk",
					Asked: oldID, Uses: oldID, Since: today, Needs: []string{newID}, Callers: []string{user}},
				{
					ID:         partner,
					Service:    "SQL server",
					Configured: true,
					Vault:      neu,
					Key:        "cmk",
					Asked:      oldID,
					Uses:       oldID,
					Since:      today,
					Callers:    []string{system},
				},
			},
		},
		"SQL database": {
			id: server + "/databases/db-1", calls: 1,
			answers: map[string]string{
				server + "/databases/db-1": `{"id":"` + server + `/databases/db-1","identity":{"type":"UserAssigned",
					"userAssignedIdentities":{"UAMI":{"principalId":"USER","clientId":"CLIENT"}}},
					"properties":{"encryptionProtector":"WEU/keys/cmk/NEW","encryptionProtectorAutoRotation":true,
					"keys":{"WEU/keys/cmk/NEW":{"type":"AzureKeyVault"},"WEU/keys/cmk/OLD":{"type":"AzureKeyVault"}}}}`,
			},
			want: []record.ConsumerSeen{{ID: server + "/databases/db-1", Service: "SQL database", Configured: true,
				Vault: weu, Key: "cmk", Uses: newID, Follows: true, Since: today, Needs: []string{oldID},
				Callers: []string{user}}},
		},
		"SQL managed instance": {
			id: instance, calls: 4,
			answers: map[string]string{
				instance: `{"id":"` + instance + `",` + identity + `,"location":"West Europe","properties":{}}`,
				instance + "/encryptionProtector/current": `{"id":"` + instance + `/encryptionProtector/current",
					"properties":{"serverKeyType":"AzureKeyVault","uri":"WEU/keys/cmk/NEW"}}`,
				instance + "/keys": `{"value":[{"id":"` + instance + `/keys/k","properties":{
					"serverKeyType":"AzureKeyVault","uri":"WEU/keys/cmk/OLD"}}]}`,
				group + "Microsoft.Sql/locations/westeurope/instanceFailoverGroups": `{"value":[{"id":"x","properties":{
					"managedInstancePairs":[{
					"primaryManagedInstanceId":"GROUP/Microsoft.Sql/managedInstances/mi-8",
					"partnerManagedInstanceId":"GROUP/Microsoft.Sql/managedInstances/mi-9"}]}}]}`,
			},
			want: []record.ConsumerSeen{{ID: instance, Service: "SQL managed instance", Configured: true, Vault: weu,
				Key: "cmk", Asked: newID, Uses: newID, Since: today, Needs: []string{oldID},
				Callers: []string{system}}},
		},
		"container registry": {
			id: group + "Microsoft.ContainerRegistry/registries/acr1", calls: 1,
			answers: map[string]string{group + "Microsoft.ContainerRegistry/registries/acr1": `{
				"id":"GROUP/Microsoft.ContainerRegistry/registries/acr1",` + identity + `,"properties":{
				"provisioningState":"Succeeded","encryption":{"status":"enabled","keyVaultProperties":{
				"keyIdentifier":"WEU/keys/cmk","versionedKeyIdentifier":"WEU/keys/cmk/NEW","keyRotationEnabled":true,
				"lastKeyRotationTimestamp":"2026-11-20T08:30:00.0000000+00:00","identity":"CLIENT"}}}}`},
			want: []record.ConsumerSeen{{ID: group + "Microsoft.ContainerRegistry/registries/acr1",
				Service: "container registry", Configured: true, Vault: weu, Key: "cmk", Uses: newID, Follows: true,
				Since: rotated, Callers: []string{user}}},
		},
		"Event Hubs namespace": {
			id: group + "Microsoft.EventHub/namespaces/eh-1", calls: 1,
			answers: map[string]string{group + "Microsoft.EventHub/namespaces/eh-1": `{
				"id":"GROUP/Microsoft.EventHub/namespaces/eh-1",` + identity + `,"properties":{
				"provisioningState":"Succeeded","encryption":{"keySource":"Microsoft.KeyVault","keyVaultProperties":[
				{"keyName":"cmk","keyVaultUri":"WEU","keyVersion":"","identity":{"userAssignedIdentity":"UAMI"}},
				{"keyName":"other","keyVaultUri":"WEU","keyVersion":""},
				{"keyName":"cmk","keyVaultUri":"NEU/","keyVersion":"OLD"}]}}}`},
			want: []record.ConsumerSeen{
				{ID: group + "Microsoft.EventHub/namespaces/eh-1", Service: "Event Hubs namespace", Configured: true,
					Vault: weu, Key: "cmk", Follows: true, Callers: []string{user}},
				{ID: group + "Microsoft.EventHub/namespaces/eh-1", Service: "Event Hubs namespace", Configured: true,
					Vault: neu, Key: "cmk", Asked: oldID, Uses: oldID, Since: today, Callers: []string{system}},
			},
		},
		"PostgreSQL flexible server": {
			id: group + "Microsoft.DBforPostgreSQL/flexibleServers/pg-1", calls: 1,
			answers: map[string]string{group + "Microsoft.DBforPostgreSQL/flexibleServers/pg-1": `{
				"id":"GROUP/Microsoft.DBforPostgreSQL/flexibleServers/pg-1",` + identity + `,"properties":{
				"state":"Ready","dataEncryption":{"type":"AzureKeyVault","primaryKeyURI":"WEU/keys/cmk",
				"primaryUserAssignedIdentityId":"UAMI","primaryEncryptionKeyStatus":"Valid",
				"geoBackupKeyURI":"NEU/keys/cmk/OLD","geoBackupUserAssignedIdentityId":"UAMI"}}}`},
			want: []record.ConsumerSeen{
				{ID: group + "Microsoft.DBforPostgreSQL/flexibleServers/pg-1", Service: "PostgreSQL flexible server",
					Configured: true, Vault: weu, Key: "cmk", Follows: true, Callers: []string{user}},
				{ID: group + "Microsoft.DBforPostgreSQL/flexibleServers/pg-1",
					Service:    "PostgreSQL flexible server, geo-redundant backups",
					Configured: true, Vault: neu, Key: "cmk", Asked: oldID, Uses: oldID, Since: today,
					Callers: []string{user}},
			},
		},
		"MySQL flexible server": {
			id: group + "Microsoft.DBforMySQL/flexibleServers/my-1", calls: 1,
			answers: map[string]string{group + "Microsoft.DBforMySQL/flexibleServers/my-1": `{
				"id":"GROUP/Microsoft.DBforMySQL/flexibleServers/my-1",` + identity + `,"properties":{
				"state":"Ready","dataEncryption":{"type":"AzureKeyVault","primaryKeyURI":"WEU/keys/cmk/OLD",
				"primaryUserAssignedIdentityId":"UAMI"}}}`},
			want: []record.ConsumerSeen{{ID: group + "Microsoft.DBforMySQL/flexibleServers/my-1",
				Service: "MySQL flexible server", Configured: true, Vault: weu, Key: "cmk", Asked: oldID, Uses: oldID,
				Since: today, Callers: []string{user}}},
		},
	}
}

func TestEachServiceShowsWhatItUses(t *testing.T) {
	for name, s := range samples() {
		t.Run(name, func(t *testing.T) {
			c := newCloud(s.answers)
			u := watcher(t, c, consumer.Config{}).Look(t.Context(), cmk(s.id))
			wantSeen(t, u.Consumers, s.want...)
			if calls := c.sent(); len(calls) != s.calls {
				t.Errorf("%d calls, want %d:\n%q", len(calls), s.calls, calls)
			}
		})
	}
}

func TestEveryServiceHasASample(t *testing.T) {
	var names []string
	for _, s := range service.All() {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	if diff := cmp.Diff(names, slices.Sorted(maps.Keys(samples()))); diff != "" {
		t.Errorf("services without a sample, or the other way round (-services +samples):\n%s", diff)
	}
}

// A version that Azure shows as in use counts only if the last change of the resource is in effect.
func TestAnUnfinishedChangeShowsNoVersion(t *testing.T) {
	for _, name := range []string{"AI services account", "MySQL flexible server"} {
		t.Run(name, func(t *testing.T) {
			s := samples()[name]
			c := newCloud(nil)
			for path, body := range s.answers {
				c.set(path, replace(t, body, `"Succeeded"`, `"Accepted"`, `"Ready"`, `"Updating"`))
			}
			u := watcher(t, c, consumer.Config{}).Look(t.Context(), cmk(s.id))
			want := s.want[0]
			want.Uses, want.Since = "", time.Time{}
			wantSeen(t, u.Consumers, want)
		})
	}
}

// A resource whose vault is in another tenant calls it as an application. Azure does not show that one's object id.
func TestACallerFromAnotherTenantIsNotKnown(t *testing.T) {
	for name, change := range map[string][]string{
		"storage account": {`"identity":{"userAssigned`,
			`"identity":{"federatedIdentityClientId":"A","userAssigned`},
		"Cosmos DB account":   {"UserAssignedIdentity=UAMI", "UserAssignedIdentity=UAMI&FederatedClientId=A"},
		"disk encryption set": {`"activeKey"`, `"federatedClientId":"A","activeKey"`},
		"SQL database":        {`"encryptionProtector"`, `"federatedClientId":"A","encryptionProtector"`},
		"SQL managed instance": {`"location":"West Europe","properties":{`,
			`"location":"West Europe","properties":{"federatedClientId":"A"`},
	} {
		t.Run(name, func(t *testing.T) {
			s := samples()[name]
			c := newCloud(nil)
			for path, body := range s.answers {
				c.set(path, replace(t, body, change...))
			}
			for _, seen := range watcher(t, c, consumer.Config{}).Look(t.Context(), cmk(s.id)).Consumers {
				if seen.Err != nil || len(seen.Callers) > 0 {
					t.Errorf("callers %q, %v", seen.Callers, seen.Err)
				}
			}
		})
	}
}

func TestATroubledConsumerSaysSo(t *testing.T) {
	for name, try := range map[string]struct {
		service string
		change  []string
		says    []string
	}{
		"a disk encryption set whose rotation failed": {"disk encryption set",
			[]string{`"rotationToLatestKeyVersionEnabled"`, `"autoKeyRotationError":{"code":"KeyVaultAccessForbidden",
				"message":"no access"},"rotationToLatestKeyVersionEnabled"`},
			[]string{"disk encryption set des-1", "rotation failed", "KeyVaultAccessForbidden no access",
				"az disk-encryption-set update --ids"}},
		"a Cosmos DB account without access": {"Cosmos DB account",
			[]string{"Access to the configured customer managed key confirmed.",
				"Access to your account is currently revoked because the key is gone."},
			[]string{"Cosmos DB account cosmos-1", "cannot use its key", "currently revoked"}},
		"a PostgreSQL server without access": {"PostgreSQL flexible server", []string{`"Valid"`, `"Invalid"`},
			[]string{"PostgreSQL flexible server pg-1", "cannot use its key " + weu + "/keys/cmk"}},
		"a storage account between two keys": {"storage account",
			[]string{"WEU/keys/cmk/NEW", "WEU/keys/older/NEW"},
			[]string{"storage account stcmkdemo", "still uses " + weu + "/keys/older", "between two keys"}},
		"a storage account under Microsoft's key": {"storage account",
			[]string{`"Microsoft.Keyvault"`, `"Microsoft.Storage"`, `"Microsoft.KeyVault"`, `"Microsoft.Storage"`},
			[]string{"storage account stcmkdemo", "under the service's own key, and not under cmk",
				"take it out of consumers:"}},
		"an AI account under Microsoft's key": {"AI services account",
			[]string{`"encryption"`, `"none"`}, []string{"under the service's own key, and not under cmk"}},
		"a SQL database without a protector of its own": {"SQL database",
			[]string{`"encryptionProtector"`, `"none"`, `"keys"`, `"nothing"`},
			[]string{"SQL database db-1", "no protector of its own", "name its server in consumers:"}},
		"a SQL server with a key of unknown version": {"SQL server", []string{"WEU/keys/cmk/OLD", "NEU/keys/cmk"},
			[]string{"SQL server sql-1", "needs " + neu + "/keys/cmk, and does not show which version"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := samples()[try.service]
			c := newCloud(nil)
			for path, body := range s.answers {
				c.set(path, replace(t, body, try.change...))
			}
			u := watcher(t, c, consumer.Config{}).Look(t.Context(), cmk(s.id))
			wantErr(t, u.Consumers[0].Err, try.says...)
		})
	}
}

// The configuration may name an account of which only a child has the key.
func TestAParentOfAConsumerCountsAsNoConsumerItself(t *testing.T) {
	s := samples()["storage account"]
	c := newCloud(s.answers)
	c.set(
		storage,
		replace(t, s.answers[storage], `"keyname":"cmk"`, `"keyname":"other"`, "keys/cmk/NEW", "keys/other/NEW"),
	)
	u := watcher(t, c, consumer.Config{}).Look(t.Context(), cmk(s.id))
	account, scope := s.want[0], s.want[1]
	account.Key, account.Configured = "other", false
	wantSeen(t, u.Consumers, account, scope)
}

// The configuration may name a child besides its parent.
func TestAChildThatIsNamedItselfIsShownOnce(t *testing.T) {
	s := samples()["storage account"]
	c := newCloud(s.answers)
	c.set(storage+"/encryptionScopes/own", `{"id":"`+storage+`/encryptionScopes/own","properties":{
		"source":"Microsoft.KeyVault","keyVaultProperties":{"keyUri":"WEU/keys/cmk/OLD",
		"currentVersionedKeyIdentifier":"WEU/keys/cmk/OLD"}}}`)
	u := watcher(t, c, consumer.Config{}).Look(t.Context(), cmk(s.id, storage+"/encryptionScopes/own"))
	wantSeen(t, u.Consumers, s.want...)
}

func TestAParentUnderMicrosoftsKeyIsShownAsThat(t *testing.T) {
	s := samples()["storage account"]
	c := newCloud(s.answers)
	c.set(storage, replace(t, s.answers[storage], "Microsoft.Keyvault", "Microsoft.Storage"))
	u := watcher(t, c, consumer.Config{}).Look(t.Context(), cmk(s.id))
	wantSeen(t, u.Consumers, record.ConsumerSeen{ID: storage, Service: "storage account", Key: record.OwnKey,
		Callers: []string{user}}, s.want[1])
}

func TestAConsumerUnderAnotherKeyIsShownAsThat(t *testing.T) {
	c := newCloud(map[string]string{cosmos: `{"id":"` + cosmos + `","properties":{
		"keyVaultKeyUri":"https://fabrikam.vault.azure.net/keys/theirs"}}`})
	u := watcher(t, c, consumer.Config{}).Look(t.Context(), cmk(cosmos))
	wantSeen(t, u.Consumers, record.ConsumerSeen{ID: cosmos, Service: "Cosmos DB account", Configured: true,
		Vault: "https://fabrikam.vault.azure.net", Key: "theirs", Follows: true})
}
