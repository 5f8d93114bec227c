package config_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// manyKeys is a configuration with n keys more in one vault of the base.
func manyKeys(n int, fields string) map[string]string {
	files := map[string]string{"keyd.yaml": base}
	const perFile = 5000
	for first := 0; first < n; first += perFile {
		var b strings.Builder
		b.WriteString("keys:\n")
		for i := first; i < min(n, first+perFile); i++ {
			fmt.Fprintf(&b, "  k%d: {%s}\n", i, fields)
		}
		files[fmt.Sprintf("keys.d/%d.yaml", first)] = b.String()
	}
	return files
}

func TestAManagedHSMHolds5000KeysWithItsKeyExchangeKey(t *testing.T) {
	// The base has one key in it.
	if _, ps := load(t, manyKeys(4998, "vaults: [mhsm]")); ps != nil {
		t.Errorf("4999 keys and the key exchange key:\n%v", ps)
	}
	_, ps := load(t, manyKeys(4999, "vaults: [mhsm]"))
	const want = "keyd.yaml:9:3: vault mhsm: a Managed HSM holds 5000 keys, and here are 5000 and the key exchange " +
		"key; put some of the keys into another one"
	if diff := cmp.Diff(want, ps.Error()); diff != "" {
		t.Error(diff)
	}
}

func TestAKeyVaultHoldsAnyNumberOfKeys(t *testing.T) {
	if _, ps := load(t, manyKeys(5001, "vaults: [weu]")); ps != nil {
		t.Errorf("%v", ps)
	}
}

func TestProofsThatDoNotFitTheLimitsAreFoundWhenTheConfigurationIsRead(t *testing.T) {
	c, ps := load(t, manyKeys(1999, "vaults: [weu]"))
	if ps != nil {
		t.Fatal(ps)
	}
	slower := c.Slower()
	const want = "2000 keys proven every 5 minutes need 13.3 calls/s of vault weu; keyd may use 12.5: newest " +
		"versions are proven every 6 minutes"
	if len(slower) != 1 || slower[0].String() != want {
		t.Errorf("%v", slower)
	}
}

func TestProofsThatFitAreNotMentioned(t *testing.T) {
	c, ps := load(t, manyKeys(1999, "vaults: [weu], spec: RSA-2048"))
	if ps != nil {
		t.Fatal(ps)
	}
	if slower := c.Slower(); len(slower) > 0 {
		t.Errorf("%v", slower)
	}
}
