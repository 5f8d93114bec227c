package config_test

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/config"
)

const guardedText = `instance: test
state_dir: /var/lib/keyd
hsm: {module: /usr/lib/softhsm/libsofthsm2.so, token: keyd, pin_file: hsm-pin}
azure: {credential: managed-identity}
vaults:
  weu: {url: https://weu-keyd-test.vault.azure.net, kek: {trust: first-use}}
  neu: {url: https://neu-keyd-test.vault.azure.net}
keys:
  one: {vaults: [weu, neu]}
`

func TestTheGuardedSettingsAreThoseThatCouldHurtAKey(t *testing.T) {
	want := config.Guarded{
		"": {"control.group": "keyd"},
		"https://weu-keyd-test.vault.azure.net": {"vaults.name": "weu", "vaults.kek.name": "keyd-kek",
			"vaults.kek.trust": "first-use"},
		"https://neu-keyd-test.vault.azure.net": {"vaults.name": "neu", "vaults.kek.name": "keyd-kek"},
		"one": {"keys.retire": "never",
			"keys.vaults": "https://neu-keyd-test.vault.azure.net, https://weu-keyd-test.vault.azure.net"},
	}
	if diff := cmp.Diff(want, mustLoad(t, guardedText).Guarded()); diff != "" {
		t.Error(diff)
	}
}

func TestATestRootAndAttestationThatIsOffAreGuarded(t *testing.T) {
	path, err := filepath.Abs("../attest/testdata/made/root.pem")
	if err != nil {
		t.Fatal(err)
	}
	c, err := attested(t, ", test_attestation_root: "+path, `attestation: off, fingerprint: "`+print+`"`, "")
	if err != nil {
		t.Fatal(err)
	}
	g := c.Guarded()
	if g[""]["hsm.test_attestation_root"] == "" || g[managedHSM]["vaults.kek.attestation"] != "off" ||
		g[managedHSM]["vaults.kek.fingerprints"] != print {
		t.Errorf("%v", g)
	}
}

// A pin: trust in every key exchange key of that pool follows from it.
func TestThePartitionRootOfAPoolIsGuarded(t *testing.T) {
	c, err := attested(t, "", `partition_root: "`+print+`"`, "")
	if err != nil {
		t.Fatal(err)
	}
	if g := c.Guarded(); g[managedHSM]["vaults.kek.partition_root"] != print {
		t.Errorf("%v", g)
	}
}

func TestWhichActsTakeTwoOperatorsIsGuarded(t *testing.T) {
	g := mustLoad(t, guardedText+"approvals: {acts: [kek, adopt], wait: 8h}\n").Guarded()
	if g[""]["approvals.acts"] != "adopt, kek" || g[""]["approvals.wait"] != "8h" {
		t.Errorf("%v", g[""])
	}
}

func TestChangesThatAreAppliedLeadToTheSameDigest(t *testing.T) {
	was := config.Guarded{"": {"control.operators": "1000"}, "old": {"keys.retire": "never"}}
	is := config.Guarded{"": {"control.operators": "1000, 1001"}, "new": {"keys.retire": "never"}}
	changes := was.Changes(is)
	want := []config.GuardedChange{
		{About: "", Values: map[string]string{"control.operators": "1000, 1001", "control.operators_before": "1000"}},
		{About: "new", Values: map[string]string{"keys.retire": "never", "keys.retire_before": "none"}},
		{About: "old", Values: map[string]string{"keys.retire": "none", "keys.retire_before": "never"}},
	}
	if diff := cmp.Diff(want, changes); diff != "" {
		t.Error(diff)
	}
	if was.Digest() == is.Digest() {
		t.Error("two configurations have one digest")
	}
	for _, c := range changes {
		was.Apply(c)
	}
	if was.Digest() != is.Digest() || len(was.Changes(is)) > 0 {
		t.Errorf("the changes lead to %v, want %v", was, is)
	}
}
