package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
)

func TestAnImportLostBeforeItWasCommittedIsRepeatedOnlyWhenThatIsCertain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	lost := w.emu.Fail(emulator.Rule{Operation: "import", Drop: emulator.DropBeforeCommit, Count: 1})
	in := w.inside()
	s := in.settle()
	if lost.Hits() != 1 || s.Kind != plan.Wait ||
		!strings.Contains(s.Why, "whether vault weu took the import; it will know at") {
		t.Fatalf("after the lost import the loop does %s: %s", s.Kind, s.Why)
	}
	w.later(2*time.Minute + 30*time.Second) // deadline and settle time are 3 minutes
	if s := in.settle(); s.Kind != plan.Wait {
		t.Errorf("half a minute too early the loop does %s: %s", s.Kind, s.Why)
	}
	w.wantVersions(0)
	w.later(time.Minute)
	if s := in.settle(); s.Kind != plan.Idle {
		t.Errorf("when it is certain the loop ends with %s: %s", s.Kind, s.Why)
	}
	w.wantVersions(1)
	placements := in.record().Generations[0].Placements
	if len(placements) != 2 || placements[0].State != key.Void || placements[1].State != key.Proven {
		t.Errorf("the record shows %+v", placements)
	}
}

func TestAnEmptyListingOfAKeyThatHadVersionsHoldsTheKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	in := w.inside()
	in.settle()
	w.wantVersions(1)
	v := w.vault["weu"]
	if err := v.DeleteKey(keyName); err != nil {
		t.Fatal(err)
	}
	if err := v.PurgeKey(keyName); err != nil {
		t.Fatal(err)
	}
	w.later(30 * time.Second) // not yet past the settle time: the listing may be stale
	if s := in.settle(); s.Kind != plan.Idle {
		t.Errorf("on a listing that may be stale the loop does %s: %s", s.Kind, s.Why)
	}
	w.later(3 * time.Minute)
	in.settle()
	hold := in.record().Hold
	if hold == nil || hold.Code != key.HoldVersionsMissing || !strings.Contains(hold.Reason, "keyd adopt "+keyName) {
		t.Errorf("the key is not held for its missing version: %+v", hold)
	}
	if n := w.imports(vaultHost); n != 1 {
		t.Errorf("there were %d imports, not 1", n)
	}
}
