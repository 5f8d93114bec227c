package emulator_test

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azarm "github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/storage/armstorage"
	"github.com/keyd-project/keyd/internal/emulator"
)

const (
	subscription = "00000000-0000-4000-8000-00000000000a"
	group        = "/subscriptions/" + subscription + "/resourceGroups/rg/providers/"
)

func armOptions(e *emulator.Emulator) *azarm.ClientOptions {
	return &azarm.ClientOptions{ClientOptions: clientOptions(e)}
}

// done runs a long operation to its end; a test's poller need not pause.
func done[T any](t *testing.T, p *runtime.Poller[T], err error) (T, error) {
	t.Helper()
	var none T
	if err != nil {
		return none, err
	}
	for !p.Done() {
		if _, err := p.Poll(t.Context()); err != nil {
			return none, err
		}
	}
	return p.Result(t.Context())
}

// generic is armresources.Client, which knows no resource type.
type generic struct {
	*armresources.Client
	t *testing.T
}

func newGeneric(t *testing.T, e *emulator.Emulator) generic {
	t.Helper()
	c, err := armresources.NewClient(subscription, managedIdentity(t, e), armOptions(e))
	must(t, err)
	return generic{c, t}
}

const anyVersion = "2025-01-01"

// resource is a GenericResource from JSON.
func (g generic) resource(text string) (r armresources.GenericResource) {
	g.t.Helper()
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		g.t.Fatal(err)
	}
	return r
}

func (g generic) put(id, text string) error {
	p, err := g.BeginCreateOrUpdateByID(g.t.Context(), id, anyVersion, g.resource(text), nil)
	_, err = done(g.t, p, err)
	return err
}

func (g generic) patch(id, text string) error {
	p, err := g.BeginUpdateByID(g.t.Context(), id, anyVersion, g.resource(text), nil)
	_, err = done(g.t, p, err)
	return err
}

// properties is a resource as JSON text.
func (g generic) properties(id string) string {
	g.t.Helper()
	got, err := g.GetByID(g.t.Context(), id, anyVersion, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	text, err := json.Marshal(got.GenericResource)
	if err != nil {
		g.t.Fatal(err)
	}
	return string(text)
}

func (g generic) wantShown(id string, parts ...string) {
	g.t.Helper()
	text := g.properties(id)
	for _, p := range parts {
		if !strings.Contains(text, p) {
			g.t.Errorf("%s is not in %s", p, text)
		}
	}
}

func TestAStorageAccountByItsOwnClient(t *testing.T) {
	s := newEstate(t, emulator.Options{})
	v1 := s.rotate()
	c, err := armstorage.NewAccountsClient(subscription, managedIdentity(t, s.Emulator), armOptions(s.Emulator))
	must(t, err)
	p, err := c.BeginCreate(t.Context(), "rg", "contosodata", armstorage.AccountCreateParameters{
		Location: ptr("westeurope"), Kind: ptr(armstorage.KindStorageV2),
		SKU:      &armstorage.SKU{Name: ptr(armstorage.SKUNameStandardLRS)},
		Identity: &armstorage.Identity{Type: ptr(armstorage.IdentityTypeSystemAssigned)},
	}, nil)
	made, err := done(t, p, err)
	must(t, err)
	if *made.Properties.ProvisioningState != armstorage.ProvisioningStateSucceeded ||
		*made.Identity.PrincipalID == "" || *made.SKU.Name != armstorage.SKUNameStandardLRS {
		t.Errorf("made: %+v", made.Account)
	}
	s.write("contosodata") // under the service's own key
	_, err = c.Update(t.Context(), "rg", "contosodata", armstorage.AccountUpdateParameters{
		Properties: &armstorage.AccountPropertiesUpdateParameters{Encryption: &armstorage.Encryption{
			KeySource: ptr(armstorage.KeySourceMicrosoftKeyvault),
			KeyVaultProperties: &armstorage.KeyVaultProperties{KeyVaultURI: ptr("https://" + protected),
				KeyName: ptr("cmk")},
		}},
	}, nil)
	must(t, err)
	inUse := func() *armstorage.KeyVaultProperties {
		got, err := c.GetProperties(t.Context(), "rg", "contosodata", nil)
		if err != nil {
			t.Fatal(err)
		}
		return got.Properties.Encryption.KeyVaultProperties
	}
	if got := inUse(); *got.CurrentVersionedKeyIdentifier != cmkURL+"/"+v1 ||
		!got.LastKeyRotationTimestamp.Equal(s.clock.Now()) {
		t.Errorf("in use: %s since %s", *got.CurrentVersionedKeyIdentifier, got.LastKeyRotationTimestamp)
	}
	v2 := s.rotate()
	s.later(24 * time.Hour)
	if got := inUse(); *got.CurrentVersionedKeyIdentifier != cmkURL+"/"+v2 ||
		!got.LastKeyRotationTimestamp.Equal(s.clock.Now()) {
		t.Errorf("in use: %s since %s", *got.CurrentVersionedKeyIdentifier, got.LastKeyRotationTimestamp)
	}
	s.wantReadable()
	listed := 0
	for pager := c.NewListPager(nil); pager.More(); {
		page, err := pager.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		listed += len(page.Value)
	}
	if _, err := c.Delete(t.Context(), "rg", "contosodata", nil); err != nil || listed != 1 {
		t.Errorf("%d accounts were listed; deleting: %v", listed, err)
	}
	_, err = c.GetProperties(t.Context(), "rg", "contosodata", nil)
	wantError(t, err, 404, "ResourceNotFound", "")
}

const (
	cosmosID = group + "Microsoft.DocumentDB/databaseAccounts/db"
	diskID   = group + "Microsoft.Compute/diskEncryptionSets/des"
	aiID     = group + "Microsoft.CognitiveServices/accounts/ai"

	withIdentity = `"location":"westeurope","identity":{"type":"SystemAssigned"},`
)

func TestACosmosAccountByTheGenericClient(t *testing.T) {
	s := newEstate(t, emulator.Options{})
	s.rotate()
	g := newGeneric(t, s.Emulator)
	must(t, g.put(cosmosID, `{"location":"westeurope","properties":{"keyVaultKeyUri":"`+cmkURL+`"}}`))
	s.write("db")
	g.wantShown(cosmosID, `"keyVaultKeyUri":"`+cmkURL+`"`,
		`"customerManagedKeyStatus":"Access to the configured customer managed key confirmed."`,
		`"provisioningState":"Succeeded"`)
	if id := s.report("db").Identity; id != "a232010e-820c-4083-83bb-3ace5fc29d0b" {
		t.Errorf("its default identity is %s, not Cosmos DB's own", id)
	}
	must(t,
		g.patch(cosmosID,
			`{"identity":{"type":"SystemAssigned"},"properties":{"defaultIdentity":"SystemAssignedIdentity"}}`))
	s.enable("", false)
	s.later(time.Hour)
	g.wantShown(cosmosID, `"principalId":"`+s.report("db").Identity, "currently revoked", "KeyDisabled")
	s.enable("", true)
	p, err := g.BeginDeleteByID(t.Context(), cosmosID, anyVersion, nil)
	if _, err := done(t, p, err); err != nil {
		t.Fatal(err)
	}
	if there, err := g.CheckExistenceByID(t.Context(), cosmosID, anyVersion, nil); err != nil || there.Success {
		t.Errorf("after its deletion it is there: %v, %v", there.Success, err)
	}
}

func TestADiskEncryptionSetByTheGenericClient(t *testing.T) {
	s := newEstate(t, emulator.Options{})
	v1 := s.rotate()
	g := newGeneric(t, s.Emulator)
	set := func(key string) string {
		return `{` + withIdentity + `"properties":{"rotationToLatestKeyVersionEnabled":true,"activeKey":{"keyUrl":"` +
			key + `"}}}`
	}
	if err := g.put(diskID, set(cmkURL)); err == nil || !strings.Contains(err.Error(), "must have a version") {
		t.Errorf("without a version: %v", err)
	}
	must(t, g.put(diskID, set(cmkURL+"/"+v1)))
	s.write("des")
	v2 := s.rotate()
	s.later(time.Hour)
	g.wantShown(diskID, `"activeKey":{"keyUrl":"`+cmkURL+"/"+v2, `"previousKeys":[{"keyUrl":"`+cmkURL+"/"+v1,
		`"encryptionType":"EncryptionAtRestWithCustomerKey"`)
	s.later(10 * time.Minute)
	g.wantShown(diskID, `"previousKeys":[]`)
	s.wantReadable()
}

func TestADiskEncryptionSetThatCouldNotRotateRetriesOnlyAfterAChange(t *testing.T) {
	s := newEstate(t, emulator.Options{})
	v1 := s.rotate()
	s.make("disk=des,key=KEY")
	s.write("des")
	v2 := s.rotate()
	s.enable(v2, false)
	s.later(time.Hour)
	g := newGeneric(t, s.Emulator)
	id := s.report("des").ID
	g.wantShown(id, `"autoKeyRotationError":{"code":"BadRequest","message":"Version `+v2+` of `+cmkURL+` is disabled."`)
	s.enable(v2, true)
	s.later(time.Hour)
	s.wantInUse(map[string]string{"des": v1})
	must(t, g.patch(id, `{"tags":{"touched":"yes"}}`))
	s.later(time.Hour)
	s.wantInUse(map[string]string{"des": v2})
	s.wantReadable()
}

func TestAKeyRefusedByTheVaultEndsALongOperation(t *testing.T) {
	s := guarded(t)
	s.rotate()
	g := newGeneric(t, s.Emulator)
	err := g.put(cosmosID, `{"location":"westeurope","properties":{"keyVaultKeyUri":"`+cmkURL+`"}}`)
	if err == nil || !strings.Contains(err.Error(), "KeyVaultAccessForbidden") ||
		!strings.Contains(err.Error(), "ForbiddenByRbac") {
		t.Errorf("got %v", err)
	}
	if there, err := g.CheckExistenceByID(t.Context(), cosmosID, anyVersion, nil); err != nil || there.Success {
		t.Errorf("the account is there all the same: %v, %v", there.Success, err)
	}
}

func TestAUserAssignedIdentityUsesTheKey(t *testing.T) {
	s := guarded(t)
	s.rotate()
	g := newGeneric(t, s.Emulator)
	const user = group + "Microsoft.ManagedIdentity/userAssignedIdentities/cmk-user"
	id := group + "Microsoft.Storage/storageAccounts/st"
	account := `{"location":"westeurope","identity":{"type":"UserAssigned","userAssignedIdentities":{"` + user +
		`":{}}}`
	must(t, g.put(id, account+`}`))
	var shown struct {
		Identity struct {
			UserAssignedIdentities map[string]struct{ ClientID string }
		}
	}
	must(t, json.Unmarshal([]byte(g.properties(id)), &shown))
	client := shown.Identity.UserAssignedIdentities[user].ClientID
	must(t, s.vault.Assign(emulator.RoleAssignment{Identity: client, Role: emulator.CryptoServiceEncryptionUser}))
	encryption := func(user string) string {
		return `{"properties":{"encryption":{"keySource":"Microsoft.Keyvault","identity":{"userAssignedIdentity":"` +
			user + `"},
			"keyvaultproperties":{"keyvaulturi":"https://` + protected + `","keyname":"cmk"}}}}`
	}
	if err := g.patch(id, encryption(user+"-of-another")); err == nil ||
		!strings.Contains(err.Error(), "was not given the identity") {
		t.Errorf("with another's identity: %v", err)
	}
	must(t, g.patch(id, encryption(user)))
	s.write("st")
	s.wantReadable()
	if got := s.report("st").Identity; client == "" || got != client {
		t.Errorf("it signs in as %q, and shows %q", got, client)
	}
}

func TestResourceManagerWantsATokenForItself(t *testing.T) {
	s := newEstate(t, emulator.Options{})
	get := func(header http.Header) (*http.Response, string) {
		return do(t, s.Emulator, "GET", "https://management.azure.com"+cosmosID+"?api-version="+anyVersion, header, "")
	}
	resp, body := get(nil)
	challenge := resp.Header.Get("WWW-Authenticate")
	if resp.StatusCode != 401 || !strings.Contains(body, `"code":"AuthenticationFailed"`) ||
		!strings.HasPrefix(challenge, `Bearer authorization_uri="https://login.microsoftonline.com/`+
			emulator.DefaultTenantID+`", error="invalid_token"`) {
		t.Errorf("without a token: %d, %s, %s", resp.StatusCode, challenge, body)
	}
	for audience, status := range map[string]int{
		"https://vault.azure.net": 401, "https://management.azure.com": 404,
		"https://management.core.windows.net/": 404,
	} {
		if resp, _ := get(bearer(token(t, managedIdentity(t, s.Emulator), audience))); resp.StatusCode != status {
			t.Errorf("with a token for %s: %d", audience, resp.StatusCode)
		}
	}
}

func TestASessionRevokedAtResourceManagerIsRenewedByTheClient(t *testing.T) {
	s := newEstate(t, emulator.Options{})
	certificate, key := clientCertificate(t)
	id := rand.Text()
	cred, err := azidentity.NewClientCertificateCredential(emulator.DefaultTenantID, id, certificate, key,
		&azidentity.ClientCertificateCredentialOptions{ClientOptions: clientOptions(s.Emulator)})
	must(t, err)
	c, err := armresources.NewClient(subscription, cred, armOptions(s.Emulator))
	must(t, err)
	get := func() {
		t.Helper()
		_, err := c.GetByID(t.Context(), cosmosID, anyVersion, nil)
		wantError(t, err, 404, "ResourceNotFound", "")
	}
	get()
	s.RevokeTokens(id)
	before := len(s.Requests())
	get()
	var got []string
	for _, r := range s.Requests()[before:] {
		got = append(got, r.Operation)
	}
	if want := []string{"resource", "token", "resource"}; !slices.Equal(got, want) {
		t.Errorf("calls: %v, want %v", got, want)
	}
}

func TestResourceManagerRefusesUnknownRequests(t *testing.T) {
	s := newEstate(t, emulator.Options{})
	g := newGeneric(t, s.Emulator)
	for id, code := range map[string]string{
		group + "Microsoft.Web/sites/x":         "InvalidResourceType",
		"/providers/Microsoft.Compute/x/y":      "NotFound",
		group + "Microsoft.Storage/a/b/c/d/e/f": "NotFound",
	} {
		_, err := g.GetByID(t.Context(), id, anyVersion, nil)
		var response *azcore.ResponseError
		if !errors.As(err, &response) || response.ErrorCode != code {
			t.Errorf("%s: %v, want %s", id, err, code)
		}
	}
	_, err := g.GetByID(t.Context(), cosmosID, "now", nil)
	wantError(t, err, 400, "MissingApiVersionParameter", "")
	if err := g.put(cosmosID, `{"properties":{}}`); err == nil || !strings.Contains(err.Error(), "LocationRequired") {
		t.Errorf("without a location: %v", err)
	}
}
