package arm

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func FuzzParseSpec(f *testing.F) {
	f.Add("storage=sa,key=https://contoso-weu.vault.azure.net/keys/cmk")
	f.Add("ai=x,key=https://v.vault.azure.net/keys/k/0123456789abcdef0123456789abcdef")
	f.Add("disk=,key=https:///keys//")
	f.Add("sqldb=s/d,key=https://v.vault.azure.net/keys/k")
	f.Fuzz(func(t *testing.T, s string) {
		w, err := ParseSpec(s)
		if err != nil {
			return
		}
		again, err := ParseSpec(w.String())
		if err != nil || again != w {
			t.Errorf("%q is read as %+v, and that as %+v: %v", s, w, again, err)
		}
	})
}

// nowhere is a network on which nothing answers.
type nowhere struct{}

func (nowhere) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("nothing answers")
}

// FuzzHandle sends Resource Manager any path and body: it answers with a status and
// a body that is JSON.
func FuzzHandle(f *testing.F) {
	const id = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a"
	f.Add("PUT", id,
		`{"location":"x","identity":{"type":"None"},"properties":{"encryption":{"keySource":"Microsoft.Storage"}}}`)
	f.Add("PATCH", id,
		`{"PROPERTIES":{"encryption":{"keySource":"microsoft.keyvault","KeyVaultProperties":{"keyname":1}}}}`)
	f.Add("PUT", strings.Replace(id, "Storage/storageAccounts", "Compute/diskEncryptionSets", 1),
		`{"location":"x","properties":{"activeKey":[]}}`)
	f.Add("PUT", strings.Replace(id, "Storage/storageAccounts", "DocumentDB/databaseAccounts", 1),
		`{"location":"x","properties":{"keyVaultKeyUri":"https://v.vault.azure.net/keys/k"}}`)
	f.Add("PUT", strings.Replace(id, "Storage/storageAccounts", "CognitiveServices/accounts", 1),
		`{"location":"x","properties":null}`)
	f.Add("PATCH", strings.Replace(id, "Storage/storageAccounts", "DBforMySQL/flexibleServers", 1),
		`{"location":"x","properties":{"createMode":"GeoRestore","sourceServerResourceId":"`+
			strings.Replace(id, "Storage/storageAccounts", "DBforMySQL/flexibleServers", 1)+`"}}`)
	for path, body := range map[string]string{
		"Sql/servers":                                `{"location":"x","protector":{"uri":7},"properties":{"keyId":1}}`,
		"Sql/servers/s/databases":                    `{"properties":{"createMode":"Secondary"}}`,
		"Sql/servers/s/keys":                         `{"properties":{"serverKeyType":"AzureKeyVault","uri":[]}}`,
		"Sql/managedInstances/m/replicationLinks":    `[]`,
		"EventHub/namespaces":                        `{"location":"x","properties":{"encryption":{}}}`,
		"ContainerRegistry/registries":               `{"location":"x","properties":{"encryption":[]}}`,
		"Storage/storageAccounts/a/encryptionScopes": `{"properties":{"source":"Microsoft.KeyVault"}}`,
	} {
		f.Add("POST", strings.Replace(id, "Storage/storageAccounts", path, 1), body)
	}
	f.Add("POST", "/providers/"+graphPath, `{"query":"resources","options":{"$top":-1,"$skipToken":"MQ=="}}`)
	f.Add("GET", "/providers/Microsoft.Authorization/roleAssignments/a",
		`{"properties":{"roleDefinitionId":"acdd72a7-3385-48ef-bd42-f606fba81ae7","principalId":"p"}}`)
	f.Add("PUT", strings.Replace(id, "Storage/storageAccounts", "ManagedIdentity/userAssignedIdentities", 1), `[]`)
	f.Add("GET", "\xfd/providers/", ``) // its bytes change in lower case
	f.Add("GET", "/subscriptions//providers/x/locations/l/operations/o", ``)
	f.Fuzz(func(t *testing.T, method, path, body string) {
		s := New(Config{Client: &http.Client{Transport: nowhere{}}, Now: time.Now, Trust: func(string) {},
			Logger: slog.New(slog.DiscardHandler)})
		r := Request{Method: http.MethodPut, Path: path, Query: url.Values{"api-version": {"2025-01-01"}},
			Body: []byte(body)}
		for range 2 { // the second changes what the first may have made
			got := s.Handle(t.Context(), r)
			if _, err := json.Marshal(got.Body); err != nil || got.Status < 200 {
				t.Errorf("%s %s: status %d, body %v: %v", r.Method, path, got.Status, got.Body, err)
			}
			r.Method = method
		}
		s.PollNow(t.Context())
		s.ReadEverything(t.Context())
	})
}
