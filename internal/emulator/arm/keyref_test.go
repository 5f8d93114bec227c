package arm

import "testing"

func TestAKeysURLMayNameThePort443AndNoOther(t *testing.T) {
	const plain = "https://contoso-weu.vault.azure.net/keys/k"
	for text, ok := range map[string]bool{
		plain: true, "https://Contoso-WEU.vault.azure.net:443/keys/k": true,
		"https://contoso-weu.vault.azure.net:8443/keys/k": false, "http://contoso-weu.vault.azure.net/keys/k": false,
		"https://user@contoso-weu.vault.azure.net/keys/k": false,
	} {
		k, err := parseKeyRef(text)
		if (err == nil) != ok || ok && k.String() != plain {
			t.Errorf("%s: %s, %v", text, k, err)
		}
	}
}
