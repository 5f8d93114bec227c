package e2e_test

import (
	"testing"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// Key Vault includes its port in the link to a next page, and pages may be short or empty. keyd rotates a key with
// many versions all the same.
func TestAKeyWithThreePagesOfVersionsIsRotated(t *testing.T) {
	t.Parallel()
	const before = 55 // a page has at most 25
	w := newWorld(t, func(s *settings) { s.vaults = []string{"weu", "mhsm"} })
	for _, v := range w.vault {
		for range before {
			if _, err := v.AddForeignVersion(keyName); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.start()
	w.waitHold(key.HoldNameTaken)
	w.must("adopt", keyName, "--yes", "--reason", "they are another team's of old")
	w.waitGeneration(1)
	w.must("rotate", "--now", keyName, "--reason", "drill", "--timeout", "80s")
	w.seal()
	w.wait("the key is well", func(_ status.Snapshot, k status.Key) bool { return k.State == status.StateOK })
	w.wantVersions(before + 2)
	w.wantOpen()
	w.stop()
	w.wantPairs(2)
}
