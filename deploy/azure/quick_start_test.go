package azure_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/key"
)

// snippets returns the YAML blocks of the page that have a section.
func snippets(t *testing.T, section string) (found []map[string]any) {
	t.Helper()
	for _, block := range fences(read(t, quickStart), "yaml") {
		var file map[string]any
		if err := yaml.Unmarshal([]byte(block), &file); err != nil {
			t.Fatalf("%v in\n%s", err, block)
		}
		if _, ok := file[section]; ok {
			found = append(found, file)
		}
	}
	return found
}

// loaded has keyd read what the page writes into keyd.yaml: the first whole file, with later sections in its place.
func loaded(t *testing.T, later ...map[string]any) *config.Config {
	t.Helper()
	whole := maps.Clone(snippets(t, "instance")[0])
	for _, file := range later {
		maps.Copy(whole, file)
	}
	text, err := yaml.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "keyd.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(path)
	if err != nil {
		t.Fatalf("keyd refuses it: %v\n%s", err, text)
	}
	return c
}

func TestTheQuickStartBeginsWithAVaultWithoutKeysAndWithoutAPin(t *testing.T) {
	c := loaded(t)
	if len(c.Policies) != 0 || len(c.Vaults) != 1 || len(c.Vaults[0].KEK.Fingerprints) != 0 {
		t.Errorf("it has %d keys, and vaults %+v", len(c.Policies), c.Vaults)
	}
}

func TestTheQuickStartPinsBeforeItAddsKeys(t *testing.T) {
	vaults, keys := snippets(t, "vaults"), snippets(t, "keys")
	pinned, added := vaults[len(vaults)-1], keys[len(keys)-1]
	c := loaded(t, pinned, added)
	if len(c.Vaults[0].KEK.Fingerprints) != 1 || len(c.Policies) != 3 {
		t.Errorf("at the end there are %d keys, and vaults %+v", len(c.Policies), c.Vaults)
	}
	for _, k := range c.Policies {
		if (k.Key == "ai-cmk") != (k.Spec == key.RSA2048) {
			t.Errorf("%s has %v: an AI account takes RSA-2048 only", k.Key, k.Spec)
		}
	}
	page := read(t, quickStart)
	if strings.Index(page, "kek: {fingerprint") > strings.Index(page, "storage-cmk:") {
		t.Error("the page adds keys before it pins")
	}
}

func TestTheQuickStartsCertificateIsAWayForKeydToSignIn(t *testing.T) {
	for _, file := range snippets(t, "azure") {
		loaded(t, file)
	}
}

// What is made with az and what is configured in keyd go by the same names.
func TestTheQuickStartGivesServicesTheKeysThatItConfigures(t *testing.T) {
	page := read(t, quickStart)
	keys := snippets(t, "keys")
	for name := range keys[len(keys)-1]["keys"].(map[string]any) {
		if !strings.Contains(page, "--encryption-key-name "+name) && !strings.Contains(page, "/keys/"+name) &&
			!strings.Contains(page, `"keyName": "`+name+`"`) {
			t.Errorf("no service gets %s", name)
		}
	}
	if strings.Contains(strings.Join(fences(page, "console"), ""), "--encryption-key-version") {
		t.Error("the storage account would stay with one version")
	}
}

func TestTheQuickStartAssignsTheRoleThatKeydShips(t *testing.T) {
	var role struct {
		Name             string
		AssignableScopes []string
	}
	if err := json.Unmarshal([]byte(read(t, "key-vault-role.json")), &role); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"--role " + role.Name + " ", "/usr/share/keyd/azure/key-vault-role.json",
		"s/" + strings.TrimPrefix(role.AssignableScopes[0], "/subscriptions/") + "/$SUBSCRIPTION/",
	} {
		if !strings.Contains(read(t, quickStart), want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}
