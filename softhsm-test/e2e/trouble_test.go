package e2e_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// rotated is a world whose daemon has imported generation 1 into its vaults, with data
// wrapped under it.
func rotated(t *testing.T, change func(*settings)) *world {
	t.Helper()
	w := newWorld(t, change)
	w.start()
	w.waitGeneration(1)
	w.seal()
	return w
}

// wantUntouched requires that the vaults hold what they held after generation 1, and that all its data still unwraps.
func (w *world) wantUntouched() {
	w.t.Helper()
	w.wantVersions(1)
	w.wantOpen()
}

func TestAnImportWhoseAnswerIsLostIsFoundAndNotRepeated(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.emu.Fail(emulator.Rule{Operation: "import", Drop: emulator.DropAfterCommit, Count: 1})
	w.start()
	w.waitGeneration(1)
	if n := w.imports(vaultHost); n != 1 {
		t.Errorf("there were %d imports, not 1", n)
	}
	w.wantVersions(1)
	w.wantContains(w.daemon.log.String(), "it does not repeat it, and looks in the listing", `"STEP":"land"`)
	w.stop()
	w.wantPairs(1)
}

func TestThrottlingWithoutRetryAfterDuplicatesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	throttled := w.emu.Fail(emulator.Rule{Operation: "import", Status: 429, NoRetryAfter: true, Count: 2})
	w.start()
	w.waitGeneration(1)
	if throttled.Hits() != 2 {
		t.Errorf("%d imports were throttled, not 2", throttled.Hits())
	}
	void := 0
	for _, p := range w.key().Generations[0].Placements {
		if p.State == key.Void {
			void++
		}
	}
	if void != 2 {
		t.Errorf("the record shows %d imports that did not happen, not 2", void)
	}
	w.wantVersions(1)
	w.wantContains(w.daemon.log.String(), "429")
}

func TestARefusalJustAfterARoleAssignmentIsExplainedAndTemporary(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.emu.Fail(emulator.Rule{Operation: "import", Status: 403, Inner: "ForbiddenByRbac",
		Message: "Caller is not authorized", Count: 3})
	w.start()
	w.wait("status explains the refusal", func(_ status.Snapshot, k status.Key) bool {
		return strings.Contains(k.Error, "ForbiddenByRbac") && strings.Contains(k.Error, "role")
	})
	w.waitGeneration(1)
	w.wantVersions(1)
}

func TestASoftDeletedKeyIsHeldWithTheCommandThatRecoversIt(t *testing.T) {
	t.Parallel()
	w := rotated(t, nil)
	if err := w.vault["weu"].DeleteKey(keyName); err != nil {
		t.Fatal(err)
	}
	w.waitHold(key.HoldKeyDeleted)
	w.wantContains(w.must("status"), "az keyvault key recover --vault-name contoso-weu --name "+keyName)
	if err := w.vault["weu"].RecoverKey(keyName); err != nil {
		t.Fatal(err)
	}
	w.must("resume", keyName, "--reason", "recovered")
	w.wait("the key is well again", func(_ status.Snapshot, k status.Key) bool { return k.State == status.StateOK })
	w.wantUntouched()
}

func TestAForeignVersionIsHeldAndNeverTouched(t *testing.T) {
	t.Parallel()
	w := rotated(t, nil)
	foreign, err := w.vault["weu"].AddForeignVersion(keyName)
	if err != nil {
		t.Fatal(err)
	}
	w.waitHold(key.HoldForeign)
	w.wantContains(w.must("status", keyName), foreign)
	if a := w.cli("rotate", "--now", keyName, "--reason", "over it"); a.code != 4 {
		t.Errorf("rotate --now of a held key exits %d, not 4: %s", a.code, a.stderr)
	}
	w.wantVersions(2)
	for _, v := range w.vault["weu"].Versions(keyName) {
		if !v.Enabled || (v.ID == foreign && len(v.Tags) > 0) {
			t.Errorf("version %s was changed: %+v", v.ID, v)
		}
	}
	w.wantOpen()
}

func TestASwappedKEKGetsNothingUntilItsFingerprintIsConfigured(t *testing.T) {
	t.Parallel()
	w := rotated(t, nil)
	if _, err := w.vault["weu"].ReplaceKEK("keyd-kek"); err != nil {
		t.Fatal(err)
	}
	print := w.kekPrint()
	w.must("rotate", "--now", keyName, "--reason", "drill") // goes on with the KEK in use
	w.wait("status says which KEK is not trusted", func(s status.Snapshot, _ status.Key) bool {
		return slices.ContainsFunc(s.Problems, func(p status.Problem) bool {
			return p.Runbook == "drift-kek-changed" && strings.Contains(p.Text, string(print)) &&
				strings.Contains(p.Text, "nothing is wrapped")
		})
	})
	first := w.key().Generations[0].Placements[0].KEK
	if at := w.key().Generations[1].Placements[0]; at.KEK != first || at.KEKPrint == print {
		t.Errorf("generation 2 was wrapped for %s, and only %s was trusted", at.KEK, first)
	}
	w.wantVersions(2)
	w.wantOpen()

	w.set.fingerprint = print
	w.configure()
	w.must("reload")
	w.wait("the approved KEK is in use", func(s status.Snapshot, _ status.Key) bool {
		k := s.Vaults[0].ActiveKEK()
		return k != nil && k.Fingerprint == print && k.Trust == "configured"
	})
	w.must("rotate", "--now", keyName, "--reason", "with the approved KEK")
	if at := w.key().Generations[2].Placements[0]; at.KEKPrint != print {
		t.Errorf("generation 3 was wrapped for %s, and not for the approved KEK", at.KEK)
	}
	w.wantVersions(3)
	w.wantOpen()
}

// kekPrint is the fingerprint of the KEK in weu now.
func (w *world) kekPrint() key.Fingerprint {
	w.t.Helper()
	versions := w.vault["weu"].Versions("keyd-kek")
	private, err := w.vault["weu"].PrivateKey("keyd-kek", versions[len(versions)-1].ID)
	if err != nil {
		w.t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		w.t.Fatal(err)
	}
	sum := sha256.Sum256(spki)
	return key.Fingerprint("sha256:" + hex.EncodeToString(sum[:]))
}

func TestAConfigurationWithFiveMistakesShowsAllFiveAndTouchesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.write("keyd.yaml", `instance: hq-1
state_dir: `+w.path("state")+`
hsm: {module: `+w.token.Module+`, token: keyd, pin_file: `+w.token.PINFile+`}
azure: {credential: managed-identiy}
vaults:
  weu:
    url: http://contoso-weu.vault.azure.net
keys:
  sa_cmk_key:
    vaults: [weu]
  other-key:
    vaults: [neu]
    schedule: "0 0 30 2 *"
`)
	a := w.command("run", "--config", w.path("keyd.yaml"))
	if a.code != 2 {
		t.Errorf("keyd run exits %d, not 2", a.code)
	}
	file := w.path("keyd.yaml")
	w.wantContains(a.stderr, file+":4:", file+":7:", file+":9:", file+":12:", file+":13:")
	if _, err := os.Stat(w.path("state")); err == nil {
		t.Error("the state directory was made all the same")
	}
	if r := w.emu.Requests(); len(r) > 0 {
		t.Errorf("Azure was asked all the same: %v", r)
	}
}

func TestFaultLostStateDirectoryImportsNothingAndIsRebuiltByAdopt(t *testing.T) {
	t.Parallel()
	w := rotated(t, func(s *settings) { s.vaults = []string{"weu", "mhsm"} })
	w.must("rotate", "--now", keyName, "--reason", "a second generation")
	w.seal()
	before := w.key()
	w.stop()
	w.loseChain()
	if err := os.RemoveAll(w.path("state")); err != nil {
		t.Fatal(err)
	}

	w.start()
	w.waitHold(key.HoldRecordBehind)
	w.acceptHead("the state directory was lost")
	w.wantContains(w.must("status"), "keyd adopt "+keyName)
	w.wantVersions(2)
	w.wantContains(w.must("adopt", keyName), "generation 1", "generation 2", w.versions("weu")[0],
		w.versions("mhsm")[1], "the retire clocks start again")
	if k := w.key(); len(k.Generations) != 0 {
		t.Errorf("adopt without consent recorded %d generations", len(k.Generations))
	}
	w.must("adopt", keyName, "--yes", "--reason", "the state directory was lost")
	w.waitHold(key.HoldAdopted)
	w.must("resume", keyName, "--reason", "compared with the audit")
	w.wait("the key is well again", func(_ status.Snapshot, k status.Key) bool { return k.State == status.StateOK })

	after := w.key()
	for i, g := range before.Generations {
		if i >= len(after.Generations) || after.Generations[i].Fingerprint != g.Fingerprint ||
			after.Generations[i].ID != g.ID {
			t.Errorf("generation %d was not rebuilt as it was", g.Number)
		}
	}
	w.wantVersions(2)
	report((&faulty{w}).harm(2))
}
