package key_test

import (
	"net/url"
	"testing"

	"github.com/keyd-project/keyd/internal/key"
)

const vaultURL = "https://contoso-weu.vault.azure.net"

func TestAHostWithAndWithoutItsPort443IsOneOrigin(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		vaultURL, vaultURL + "/", vaultURL + ":443", vaultURL + ":443/keys?api-version=7.6&$skiptoken=x",
		vaultURL + ":/keys",
		"https://Contoso-WEU.vault.azure.NET:443/keys/k/v", "HTTPS://contoso-weu.vault.azure.net/keys",
	} {
		if got, err := key.Origin(parsed(t, text)); err != nil || got != vaultURL {
			t.Errorf("%s: %q, %v", text, got, err)
		}
		if !key.SameOrigin(parsed(t, text), vaultURL) {
			t.Errorf("%s is not the vault", text)
		}
	}
}

func TestAnythingElseIsAnotherOriginOrNone(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		vaultURL + ":8443/keys":                             vaultURL + ":8443",
		vaultURL + ":0443":                                  vaultURL + ":0443",
		vaultURL + ":80":                                    vaultURL + ":80",
		"https://contoso-neu.vault.azure.net:443":           "https://contoso-neu.vault.azure.net",
		"https://evil.contoso-weu.vault.azure.net":          "https://evil.contoso-weu.vault.azure.net",
		"https://contoso-weu.vault.azure.net.evil.org":      "https://contoso-weu.vault.azure.net.evil.org",
		"http://contoso-weu.vault.azure.net":                "",
		"http://contoso-weu.vault.azure.net:443":            "",
		"https://user@contoso-weu.vault.azure.net":          "",
		"https://contoso-weu.vault.azure.net:443@evil.org":  "",
		"https://contoso-weu.vault.azure.net.":              "",
		"https://contoso-weu.vault.azure.net.:443/keys":     "",
		"https://contoso-wéu.vault.azure.net":               "",
		"https://\u212aontoso.vault.azure.net":              "", // the Kelvin sign, whose lower case is k
		"//contoso-weu.vault.azure.net/keys":                "",
		"/keys":                                             "",
		"https:///keys":                                     "",
		"https://[::1]/keys":                                "",
		"https:contoso-weu.vault.azure.net":                 "",
		"file://contoso-weu.vault.azure.net/etc/passwd":     "",
		"https://contoso-weu.vault.azure.net%2eevil.org/":   "https://contoso-weu.vault.azure.net.evil.org",
		"https://contoso-weu.vault.azure.net%00.evil.org/x": "",
	} {
		u, err := url.Parse(text)
		if err != nil {
			continue // url.Parse refuses it, and so does everyone who asks
		}
		got, err := key.Origin(u)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", text, got, err, want)
		}
		if key.SameOrigin(u, vaultURL) {
			t.Errorf("%s counts as the vault", text)
		}
	}
}

func parsed(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
