package e2e_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// status shows every change that somebody made in a vault, with words and remedy.
func TestDriftIsInStatusAndNothingIsTouched(t *testing.T) {
	t.Parallel()
	w := rotated(t, nil)
	w.must("rotate", "--now", keyName, "--reason", "a second generation")
	w.seal()
	w.stop() // keyd asks for a rotation policy every six hours, and after a start
	ids := w.versions("weu")
	for _, err := range []error{
		w.vault["weu"].SetEnabled(keyName, ids[0], false),
		w.vault["weu"].SetKeyOps(keyName, ids[1], "wrapKey", "unwrapKey", "sign"),
		w.vault["weu"].SetNativeRotation(keyName, true),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.vault["weu"].ReplaceKEK("keyd-kek"); err != nil {
		t.Fatal(err)
	}
	w.start()
	want := []string{"drift-version-disabled", "drift-operations-changed", "drift-native-rotation", "drift-kek-changed"}
	w.wait("all of it is in status", func(s status.Snapshot, _ status.Key) bool {
		found := 0
		for _, p := range s.Problems {
			about := keyName
			if p.Runbook == "drift-kek-changed" {
				about = "" // the vault as a whole
			}
			if slices.Contains(want, p.Runbook) && p.Key == about && p.Vault == "weu" && p.Remedy != "" {
				found++
			}
		}
		return found == len(want)
	})
	w.wantContains(w.must("status"), ids[0], ids[1], "sign, unwrapKey, wrapKey instead of unwrapKey, wrapKey",
		string(w.kekPrint()))
	w.wantVersions(2)
	for _, v := range w.vault["weu"].Versions(keyName) {
		if v.Enabled != (v.ID != ids[0]) {
			t.Errorf("version %s is enabled=%t", v.ID, v.Enabled)
		}
	}
}

func TestANewVersionExpiresAsConfigured(t *testing.T) {
	t.Parallel()
	w := rotated(t, func(s *settings) { s.schedule, s.expires = "@every 90d", "150d" })
	at := w.key().Generations[0].Placements[0]
	if left := at.Expires.Sub(at.ImportedAt); (left - 150*24*time.Hour).Abs() > time.Minute {
		t.Fatalf("the record has %v for a version imported at %v", at.Expires, at.ImportedAt)
	}
	lines, _ := w.check()
	w.wantLine(lines, "key", keyName+" in weu", "list versions", status.CheckOK,
		"the newest expires "+at.Expires.Format(time.DateOnly))
	w.wantOpen()

	if err := w.vault["weu"].SetValidity(keyName, at.Version, time.Time{}, time.Now().Add(24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	lines, _ = w.check()
	w.wantLine(lines, "key", keyName+" in weu", "version-expiring", status.CheckWarning, "keyd rotate --now "+keyName)
	w.wantLine(lines, "key", keyName+" in weu", "expiry-changed", status.CheckWarning,
		"instead of "+at.Expires.Format(time.RFC3339))
}

func TestAFailedProofNamesItsLegAndTheInnerCode(t *testing.T) {
	t.Parallel()
	w := rotated(t, func(s *settings) { s.newest = time.Second })
	w.emu.Fail(emulator.Rule{Operation: "unwrap", Status: 403, Inner: "ForbiddenByRbac"})
	w.wait("the proof has failed", func(s status.Snapshot, k status.Key) bool {
		return len(k.Proofs) == 1 && k.Proofs[0].Leg == "vault-unwrap" && k.Proofs[0].Reason == key.ForbiddenByRBAC &&
			slices.ContainsFunc(s.Problems, func(p status.Problem) bool {
				return strings.Contains(p.Text, "vault-unwrap (ForbiddenByRbac)")
			})
	})
}
