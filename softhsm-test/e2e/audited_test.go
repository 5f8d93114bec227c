package e2e_test

import (
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/softhsm-test/effects"
)

// wantAudited requires that the audit chain records everything in the vaults and in the
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
	for _, line := range effects.Unrecorded(w.chain(), vaults, pairs) {
		w.t.Error(line)
	}
}

// chain returns the chains of lost states, followed by the audit chain in the state of
// the stopped daemon.
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

// loseChain saves the state's chain for wantAudited before a test removes the state:
// the chain's effects stay.
func (w *world) loseChain() {
	w.t.Helper()
	w.lostChain = w.chain()
}
