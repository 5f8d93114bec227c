package e2e_test

import (
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/softhsm-test/effects"
)

// wantAudited requires that the audit chain tells of all that is in the vaults and in the
// token, with an intent before it and a result after it. The daemon must not run.
func (w *world) wantAudited(objects []key.Object) {
	w.t.Helper()
	var vaults []effects.Vault
	for _, name := range []string{"weu", "mhsm"} {
		v := effects.In(w.vault[name], keyName)
		v.Requests = w.emu.Requests()
		vaults = append(vaults, v)
	}
	var pairs []effects.Pair
	for _, o := range objects {
		pairs = append(pairs, effects.Pair{ID: string(o.ID), Pending: o.Label.Pending})
	}
	for _, line := range effects.Untold(w.chain(), vaults, pairs) {
		w.t.Error(line)
	}
}

// chain is the audit chain in the state of the stopped daemon, after what the chains of
// lost states had.
func (w *world) chain() []effects.Entry {
	w.t.Helper()
	a := w.command("audit", "--json", "--state", w.path("state"))
	if a.code != 0 {
		w.t.Fatalf("keyd audit --json: exit %d: %s", a.code, a.stderr)
	}
	chain, err := effects.Read(a.stdout)
	if err != nil {
		w.t.Fatal(err)
	}
	return effects.Join(w.lostChain, chain)
}

// loseChain keeps for wantAudited what the state's chain tells, before a test takes the
// state away: its effects stay.
func (w *world) loseChain() {
	w.t.Helper()
	w.lostChain = w.chain()
}
