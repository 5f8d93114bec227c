package vault_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/vault"
)

// withPort is the vault's host as it writes it into its own links.
const withPort = premiumHost + ":443"

func TestAListingGoesOnAtTheVaultsOwnHostWithItsPort(t *testing.T) {
	t.Parallel()
	for _, host := range []string{withPort, strings.ToUpper(premiumHost), "Contoso-WEU.vault.azure.net:443"} {
		var went []string
		c := staged(func(r *http.Request) (*http.Response, error) {
			went = append(went, r.URL.Host+" "+r.Host)
			if r.URL.Query().Get("page") == "" {
				return answer(
					r,
					http.StatusOK,
					`{"value":[],"nextLink":"https://`+host+`/keys/x/versions?page=2"}`,
				), nil
			}
			return answer(r, http.StatusOK, `{"value":[{"kid":"https://`+host+`/keys/`+keyName+`/`+versionID+
				`","attributes":{"enabled":true,"created":1700000000}}],"nextLink":null}`), nil
		}).client(t)
		versions, err := c.Versions(t.Context(), keyName)
		if err != nil || len(versions) != 1 || versions[0].ID != versionID {
			t.Errorf("%s: %v, %v", host, versions, err)
		}
		if want := premiumHost + " " + premiumHost; len(went) != 2 || went[1] != want {
			t.Errorf("%s: the requests went to %q, want all to %q", host, went, want)
		}
	}
}

func TestAKEKWhoseIDNamesThePortIsThisVaults(t *testing.T) {
	t.Parallel()
	kid := "https://" + withPort + "/keys/" + kekName + "/" + versionID
	c := says(bundle(t, func(b map[string]any) { b["key"].(map[string]any)["kid"] = kid })).client(t)
	kek, present, err := c.KEK(t.Context(), "")
	if err != nil || !present || kek.Kid != kid || kek.Vault != "https://"+premiumHost {
		t.Errorf("%+v, %v, %v", kek, present, err)
	}
}

func TestABlobForThisVaultsKEKMayNameThePort(t *testing.T) {
	t.Parallel()
	for host, mine := range map[string]bool{
		premiumHost: true, withPort: true, "Contoso-WEU.vault.azure.net:443": true,
		premiumHost + ":8443": false, "contoso-neu.vault.azure.net:443": false, premiumHost + ".": false,
	} {
		sent := false
		c := staged(func(r *http.Request) (*http.Response, error) {
			sent = true
			return answer(r, http.StatusForbidden, `{"error":{"code":"Forbidden"}}`), nil
		}).client(t)
		kek := foreignKEK()
		kek.Kid = "https://" + host + "/keys/" + kekName + "/" + versionID
		req := request(t, foreignKEK(), material())
		req.Blob = []byte(strings.Replace(string(req.Blob), foreignKEK().Kid, kek.Kid, 1))
		_, err := c.Import(t.Context(), req)
		if err == nil || sent != mine {
			t.Errorf("%s: sent %v, want %v: %v", host, sent, mine, err)
		}
	}
}

// many makes versions of a key in the emulator, through Microsoft's own client.
func (b *bench) many(t *testing.T, n int) {
	t.Helper()
	c, err := azkeys.NewClient(b.vault.URL, b.cred, &azkeys.ClientOptions{
		ClientOptions: azcore.ClientOptions{Transport: vault.HTTPClient(b.Transport())},
	})
	for i := 0; err == nil && i < n; i++ {
		_, err = c.CreateKey(t.Context(), keyName, azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeECHSM)}, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAKeyWithThreePagesOfVersionsIsListedWhole(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, b *bench) {
		const versions = 60 // a page has at most 25
		b.many(t, versions)
		got, err := b.client(t).Versions(t.Context(), keyName)
		if err != nil || len(got) != versions {
			t.Fatalf("%d versions, %v", len(got), err)
		}
		if pages := b.pages(); pages < 3 {
			t.Errorf("the listing had %d pages", pages)
		}
	})
}

// pages counts the answered requests for a page of versions.
func (b *bench) pages() int {
	n := 0
	for _, r := range b.Requests() {
		if r.Operation == "versions" && r.Status == http.StatusOK {
			n++
		}
	}
	return n
}

func TestATokenThatEndsBetweenTwoPagesIsRenewed(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, b *bench) {
		b.many(t, 30)
		asked := 0
		c := b.interposed(
			t,
			func(r *http.Request, next func(*http.Request) (*http.Response, error)) (*http.Response, error) {
				if strings.HasSuffix(r.URL.Path, "/versions") && r.Header.Get("Authorization") != "" {
					if asked++; asked == 2 {
						b.Fail(emulator.Rule{Operation: "versions", Status: http.StatusUnauthorized, Count: 1})
					}
				}
				return next(r)
			},
		)
		got, err := c.Versions(t.Context(), keyName)
		if err != nil || len(got) != 30 || asked < 3 {
			t.Errorf("%d versions after %d requests, %v", len(got), asked, err)
		}
	})
}

func TestAVaultsURLIsWrittenWithoutItsPort(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"https://" + withPort, "https://" + premiumHost + "/",
		"https://" + strings.ToUpper(premiumHost), "http://" + premiumHost} {
		_, err := vault.New(
			vault.Config{Vault: key.Vault{Name: "v", URL: url}, KEKName: kekName},
			fixedToken{},
			says(""),
			nil,
			nil,
		)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q is not a vault's URL", url)) {
			t.Errorf("%s: %v", url, err)
		}
	}
}
