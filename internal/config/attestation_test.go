package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/config"
)

const managedHSM = "https://contoso.managedhsm.azure.net"

// attested is a configuration with a Managed HSM and a Key Vault.
func attested(t *testing.T, hsm, kek, other string) (*config.Config, error) {
	t.Helper()
	dir := t.TempDir()
	text := strings.NewReplacer(" HSM}", hsm+"}", "{KEK}", "{"+kek+"}", "{OTHER}", "{"+other+"}").Replace(
		`instance: hq-1
hsm: {module: /usr/lib/m.so, token: keyd, pin_file: /etc/pin HSM}
vaults:
  contoso-hsm: {url: ` + managedHSM + `, kek: {KEK}}
  contoso-weu: {url: https://contoso-weu.vault.azure.net, kek: {OTHER}}
keys:
  sa-cmk-key: {vaults: [contoso-hsm]}
`)
	path := filepath.Join(dir, "keyd.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Load(path)
}

const print = "sha256:0000000000000000000000000000000000000000000000000000000000000001"

func TestAManagedHSMsKEKMustBeAttestedAndAKeyVaultsNot(t *testing.T) {
	c, err := attested(t, "", `fingerprint: "`+print+`", name: kek-1`, "")
	if err != nil {
		t.Fatal(err)
	}
	rule := c.Attestation(managedHSM)
	if !rule.Required || rule.KEK != "kek-1" || rule.Alone || rule.PartitionRoot != "" || len(rule.Roots) != 2 ||
		rule.Roots[0].Test {
		t.Errorf("%+v", rule)
	}
	if c.Attestation("https://contoso-weu.vault.azure.net").Required {
		t.Error("a Key Vault must attest")
	}
}

func TestAPartitionRootPinsAManagedHSM(t *testing.T) {
	c, err := attested(t, "", `partition_root: "`+print+`"`, "")
	if err != nil {
		t.Fatal(err)
	}
	if rule := c.Attestation(managedHSM); !rule.Required || !rule.Alone || rule.PartitionRoot != print {
		t.Errorf("%+v", rule)
	}
}

func TestAttestationCanBeOffWhereAFingerprintIsPinned(t *testing.T) {
	c, err := attested(t, "", `attestation: off, fingerprint: "`+print+`"`, "")
	if err != nil || c.Attestation(managedHSM).Required {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestATestRootTakesThePlaceOfTheVendors(t *testing.T) {
	path, err := filepath.Abs("../attest/testdata/made/root.pem")
	if err != nil {
		t.Fatal(err)
	}
	c, err := attested(t, ", test_attestation_root: "+path, "", "")
	if err != nil {
		t.Fatal(err)
	}
	if roots := c.AttestationRoots(); len(roots) != 1 || !roots[0].Test {
		t.Errorf("%+v", roots)
	}
}

func TestAMistakeAboutAttestationsIsNamed(t *testing.T) {
	for mistake, c := range map[string][3]string{
		"a Key Vault has no attestation": {"", "", `partition_root: "` + print + `"`},
		"contradict each other":          {"", `attestation: off, partition_root: "` + print + `"`, ""},
		"only a fingerprint says":        {"", "attestation: off", ""},
		"it cannot be read":              {", test_attestation_root: /nonexistent/root.pem", "", ""},
		"is for tests only":              {", test_attestation_root: /dev/null", "", ""},
	} {
		if _, err := attested(t, c[0], c[1], c[2]); err == nil || !strings.Contains(err.Error(), mistake) {
			t.Errorf("%v, want %q", err, mistake)
		}
	}
}
