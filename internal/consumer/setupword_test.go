package consumer

import (
	"strings"
	"testing"
)

// Whoever may name one database must not have a command run by the operator who pastes keyd's remedy.
func TestARemedyRunsNoNameOfAResource(t *testing.T) {
	const server = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Sql/servers/sql-1/databases/"
	for name, want := range map[string]string{
		"$(reboot)": `'` + server + `$(reboot)'`, "`reboot`": `'` + server + "`reboot`'",
		`a'; reboot; '`: `'` + server + `a'\''; reboot; '\'''`,
	} {
		id := server + name
		for _, command := range []string{
			giveKey(id, keyRef{vault: "https://v", name: "k"}), readerCommand(id),
			(call{op: opGet, id: id}).hint(&Error{Status: 403, Code: "AuthorizationFailed"}),
		} {
			rest := strings.Replace(command, " "+want, "", 1)
			if rest == command || strings.Contains(rest, "reboot") {
				t.Errorf("%s: %s", name, command)
			}
		}
	}
}

func TestTheIDOfAKeyIsNothingButThat(t *testing.T) {
	for text, ok := range map[string]bool{
		"https://v.vault.azure.net/keys/k": true, "https://V.vault.azure.net:443/keys/k/": true,
		"https://v.vault.azure.net/keys/k?v=2": false, "https://v.vault.azure.net/keys/k#2": false,
		"https://v.vault.azure.net/keys/k/latest": false, "https://v.vault.azure.net/KEYS/k": false,
		"https://u@v.vault.azure.net/keys/k": false, "http://v.vault.azure.net/keys/k": false,
		"https://v.vault.azure.net./keys/k": false, "https://v.vault.azure.net/keys/k//": false,
		"https://v.vault.azure.net/keys/../k": false, "//v.vault.azure.net/keys/k": false,
	} {
		if ref, err := parseKeyRef(text); (err == nil) != ok || ok && ref.vault != "https://v.vault.azure.net" {
			t.Errorf("%s: %v, %v", text, ref, err)
		}
	}
}
