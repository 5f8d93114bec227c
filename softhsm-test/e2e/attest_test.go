package e2e_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/audit"
	"github.com/keyd-project/keyd/internal/status"
)

func TestAManagedHSMAttestsItsKEKAndWhatWasImported(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(s *settings) { s.vaults = []string{"mhsm"} })
	w.start()
	w.waitGeneration(1)
	root := w.path("attestation-root.pem")
	var r audit.Receipt
	text := w.must("audit", "receipt", keyName, "--json", "--test-root", root)
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	at := r.Imports[0].Attested
	if at == nil || at.Result != "verified" || at.Facts == nil || at.Facts.Version != r.Imports[0].Version ||
		at.Facts.Fingerprint != r.Fingerprint || at.Facts.Extractable || at.Facts.Local || !at.Facts.TestRoot {
		t.Errorf("the receipt: %+v", at)
	}
	if n := w.requests("attestation"); n < 2 {
		t.Errorf("%d attestations were asked for, want the KEK's and the version's", n)
	}
	// The emulator's root is not the vendor's, and everybody says so.
	if text := w.must("audit", "receipt", keyName); !strings.Contains(text, "does not verify again") {
		t.Errorf("under the vendor's roots:\n%s", text)
	}
	if log := w.daemon.log.String(); !strings.Contains(log, "attestations of Managed HSMs prove nothing") {
		t.Errorf("the log does not say that the root is for tests only:\n%s", log)
	}
	lines, _ := w.check()
	w.wantLine(lines, "hsm", "hsm.test_attestation_root", "root of attestations", status.CheckWarning, "prove nothing")
}

// Without the test's root only the vendor's count, and the emulator's HSM is not the vendor's.
func TestNothingIsWrappedForAKEKThatNoVendorsHSMAttests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(s *settings) { s.vaults = []string{"mhsm"} })
	w.set.noTestRoot = true
	w.configure()
	w.start()
	w.wait("status says why the KEK is not trusted", func(s status.Snapshot, _ status.Key) bool {
		return slices.ContainsFunc(s.Problems, func(p status.Problem) bool {
			return strings.Contains(p.Text, "is not attested")
		})
	})
	if n := len(w.versions("mhsm")); n > 0 {
		t.Errorf("%d versions were imported", n)
	}
}
