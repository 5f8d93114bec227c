package config_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/key"
)

// A shared store takes a mebibyte in one change.
func TestTheSettingsOfTenThousandKeysFitIntoAStore(t *testing.T) {
	f := mustLoad(t, base).InForce()
	small, err := f.Encode()
	if err != nil || !bytes.HasPrefix(small, []byte("{")) {
		t.Fatalf("settings of few keys are kept as %.20q, %v; want readable JSON", small, err)
	}
	for n := range 10_000 {
		f.Keys = append(f.Keys, key.Policy{Key: fmt.Sprint("key-", n), Spec: key.RSA4096, Vaults: []key.Vault{{
			Name: fmt.Sprint("vault-", n/1000), URL: fmt.Sprintf("https://contoso-%d.vault.azure.net", n/1000)}},
			Consumers: []key.Consumer{{ID: fmt.Sprintf("/subscriptions/00000000-0000-0000-0000-%012d/resourceGroups/"+
				"production/providers/Microsoft.Storage/storageAccounts/stcontoso%d", n%10, n)}}})
	}
	text, err := f.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 1<<20 {
		t.Errorf("they take %d bytes", len(text))
	}
	back, err := config.DecodeInForce(text)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := back.Encode(); err != nil || !bytes.Equal(again, text) || len(back.Keys) != len(f.Keys) {
		t.Errorf("of %d keys %d are read, and kept again they are others: %v", len(f.Keys), len(back.Keys), err)
	}
	for _, broken := range []string{`"`, `"AAAA"`, string(text[:len(text)/2]) + `"`} {
		if _, err := config.DecodeInForce([]byte(broken)); err == nil {
			t.Errorf("%.10q is read", broken)
		}
	}
}
