package main

import (
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/emulator"
)

// anEvidence has two generations of the key in both vaults, with data wrapped and written under each.
func anEvidence(t *testing.T) *evidence {
	t.Helper()
	azure, err := startAzure()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = azure.Close() })
	e := newEvidence(azure)
	for generation := 1; generation <= 2; generation++ {
		for _, name := range vaultNames {
			version, err := e.vaults[name].AddForeignVersion(keyName)
			if err == nil {
				err = e.seal(name, version, generation)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if items, err := e.live(); err != nil || items != generation*len(services) {
			t.Fatalf("%d items, %v", items, err)
		}
	}
	return e
}

func TestEverythingOpensWhileTheVersionsAreThere(t *testing.T) {
	e := anEvidence(t)
	if older, err := e.openAll(2); err != nil || older != 2 {
		t.Errorf("%d older versions, %v", older, err)
	}
	if items, err := e.read(); err != nil || items != 6 {
		t.Errorf("%d items, %v", items, err)
	}
}

func TestAnOlderVersionThatNoLongerOpensIsNoticed(t *testing.T) {
	for name, harm := range map[string]func(v *emulator.Vault, id string) error{
		"other material":  func(v *emulator.Vault, id string) error { return v.SwapMaterial(keyName, id) },
		"other plaintext": func(v *emulator.Vault, id string) error { return v.GarbleUnwrap(keyName, id) },
	} {
		t.Run(name, func(t *testing.T) {
			e := anEvidence(t)
			oldest := e.sealed[0]
			if err := harm(e.vaults[oldest.vault], oldest.version); err != nil {
				t.Fatal(err)
			}
			_, err := e.openAll(2)
			want := "version " + oldest.version + " of demo-key in contoso-weu (generation 1)"
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestDataThatAServiceCannotReadIsNoticed(t *testing.T) {
	e := anEvidence(t)
	if err := e.vaults["contoso-hsm"].DeleteKey(keyName); err != nil {
		t.Fatal(err)
	}
	if _, err := e.read(); err == nil || !strings.Contains(err.Error(), "vmdisks cannot read item 0") {
		t.Errorf("%v", err)
	}
}

func TestAVersionThatIsNotThereIsNoticed(t *testing.T) {
	e := anEvidence(t)
	if err := e.seal("contoso-weu", strings.Repeat("0", 32), 3); err == nil {
		t.Error("a version that no vault has was sealed")
	}
}
