package audit

import (
	"testing"

	"github.com/keyd-project/keyd/internal/chain"
)

// lose has the store lose all after an entry, as a promoted standby does that missed changes, while the daemon runs. It
// returns the rig of what is left.
func (r *rig) lose(after int) *rig {
	r.t.Helper()
	left := r.rewrite(func(n int, _ *chain.Entry) bool { return n <= after })
	left.keeper = r.keeper
	left.keeper.Chain, left.keeper.Clock = left.store, left.clock
	left.add("", chain.StoreAccepted, "reason", "both disks are gone")
	return left
}

func TestAChainThatLostEntriesWhileKeydRanIsReadAnew(t *testing.T) {
	r := newRig(t)
	r.add("", "daemon started", "instance", "test")
	first := r.sign()
	for range 9 {
		r.add("sa", "generation reserved")
	}
	r.catchUp(1) // it reads them, and nothing is due
	left := r.lose(int(first.Seq) + 2)
	for n := 2; n < 5; n++ {
		left.add("sa", "generation reserved")
		left.sign()
		if signed := len(r.signer.signed); signed != n {
			t.Fatalf("%d checkpoints are signed, want %d", signed, n)
		}
	}
	if why := left.keeper.Broken(); why != "" {
		t.Errorf("a chain that leads on from its newest checkpoint is called broken: %s", why)
	}
	if v := left.verify(left.export(Request{})); !v.OK() || v.Keys[0].Checkpoints != 4 {
		t.Errorf("%+v", v)
	}
}

// Root's word must do without a restart of keyd.
func TestABreakIsSignedWhereTheStoreLostACheckpointWhileKeydRan(t *testing.T) {
	r := story(t)
	r.catchUp(4)
	left := r.lose(9)
	left.refuses("the chain ends with entry 10")
	left.acceptHead(10, "both disks are gone")
	left.now = left.now.Add(lastPause)
	if err := left.keeper.CatchUp(t.Context()); err != nil || left.keeper.Broken() != "" {
		t.Errorf("after root accepted it: %v, %q", err, left.keeper.Broken())
	}
}
