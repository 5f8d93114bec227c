package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/status"
)

func TestAKEKIsRotatedApprovedAndTheOldOneDisabled(t *testing.T) {
	t.Parallel()
	w := rotated(t, nil)
	old := w.vault["weu"].Versions("keyd-kek")[0].ID
	w.must("kek", "rotate", "weu", "--reason", "yearly")
	w.wait("the new KEK waits for approval", func(s status.Snapshot,
		_ status.Key) bool {
		return s.Vaults[0].WaitingKEK() != nil
	})
	print := w.kekPrint()
	w.wantContains(w.must("kek", "weu"), string(print), "fingerprints:", "az keyvault key download",
		"openssl dgst -sha256", "yearly")
	w.must("rotate", "--now", keyName, "--reason", "before it is approved")
	if at := w.key().Generations[1].Placements[0]; !strings.HasSuffix(at.KEK, "/"+old) {
		t.Errorf("generation 2 was wrapped for %s, and the KEK in use was %s", at.KEK, old)
	}

	w.set.fingerprint = print
	w.configure()
	w.must("reload")
	w.wait("the new KEK is in use", func(s status.Snapshot, _ status.Key) bool {
		k := s.Vaults[0].ActiveKEK()
		return k != nil && k.Fingerprint == print
	})
	w.must("rotate", "--now", keyName, "--reason", "with the new KEK")
	if at := w.key().Generations[2].Placements[0]; at.KEKPrint != print {
		t.Errorf("generation 3 was wrapped for %s, and not for the new KEK", at.KEK)
	}
	w.stop()

	in := w.inside()
	in.settle()
	if keks := w.vault["weu"].Versions("keyd-kek"); !keks[0].Enabled || len(keks) != 2 {
		t.Fatalf("an import may need the old KEK yet: %+v", keks)
	}
	w.later(plan.KEKNeeded(key.Vault{Kind: key.KeyVault}) + time.Minute)
	in.settle()
	if keks := w.vault["weu"].Versions("keyd-kek"); keks[0].Enabled || !keks[1].Enabled {
		t.Errorf("the old KEK is enabled: %t, the new one: %t", keks[0].Enabled, keks[1].Enabled)
	}
	rec, err := in.store.LoadVault(t.Context(), "https://"+vaultHost)
	if err != nil {
		t.Fatal(err)
	}
	if k := rec.KEK(old); k == nil || k.State != key.KEKDisabled {
		t.Errorf("the record has %+v of the old KEK", k)
	}
	w.wantVersions(3)
	w.wantOpen()
}
