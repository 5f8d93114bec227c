package e2e_test

import (
	"testing"

	"github.com/keyd-project/keyd/internal/status"
)

func TestFromEmptyToRotatedOnScheduleAndByCommand(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(s *settings) {
		s.vaults, s.schedule = []string{"weu", "mhsm"}, "@every 5s"
	})
	w.start()
	for n := 1; n <= 4; n++ { // the first because there is none, then three by schedule
		w.waitGeneration(n)
		w.seal()
	}
	w.wantContains(w.must("rotate", "--now", keyName, "--reason", "drill", "--timeout", "80s"), "finish")
	w.must("pause", keyName, "--reason", "the test counts now")
	w.seal()
	w.wantOpen()

	k := w.key()
	requested := 0
	for _, g := range k.Generations {
		if g.Requester != "schedule" && g.Requester != "keyd" {
			requested++
		}
		for _, p := range g.Placements {
			if p.ProvenAt.IsZero() {
				t.Errorf("generation %d is not proven in %s", g.Number, p.VaultName)
			}
		}
	}
	if requested != 1 {
		t.Errorf("%d generations were made on request, not 1", requested)
	}
	n := len(k.Generations)
	if n < 5 {
		t.Errorf("there are %d generations, not at least 5", n)
	}
	w.wantVersions(n)
	w.wantContains(w.must("audit", "--verify"), "internally consistent")
	w.stop()
	w.wantPairs(n)
	w.wantOpen()
}

func TestAKeyOfTheDefaultSizeIsBroughtToBothVaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(s *settings) {
		s.vaults, s.spec, s.kekBits = []string{"weu", "mhsm"}, "RSA-4096", 4096
	})
	w.start()
	w.waitGeneration(1)
	w.wait("the key is well", func(s status.Snapshot, k status.Key) bool {
		return s.Ready && k.State == status.StateOK
	})
	w.wantVersions(1)
	for _, v := range w.set.vaults {
		if bits := w.vault[v].Versions(keyName)[0].N.BitLen(); bits != 4096 {
			t.Errorf("vault %s holds a key of %d bits", v, bits)
		}
	}
	w.stop()
	w.wantPairs(1)
}
