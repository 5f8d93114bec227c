package e2e_test

import (
	"encoding/json"

	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/softhsm-test/rights"
)

// proposing: an operator proposes a consent, and a second one approves it. An act is proposed or not, and an approval
// has consumed its proposal and acted, or done neither.
func proposing(c *crash) {
	rights.ToBecomeAnotherUser(c.t)
	c.retireAfter("1d")
	c.needTwo("retire")
	c.startMortal()
	c.waitRotated(1, "nothing")
	c.seal()
	propose := func() { c.asMember(asker, asker, "retire", keyName, "--yes", "--reason", "drill") }
	c.die("save-before act proposed", propose)
	c.startMortal()
	c.wantProposals(0)
	c.die("save-after act proposed", propose)
	c.startMortal()
	id := string(c.wantProposals(1)[0].ID)

	approve := func() { c.asMember(approver, asker, "approve", id, "--yes", "--reason", "drill") }
	c.die("save-before proposal approved", approve)
	c.startMortal()
	c.wantConsent(false)
	c.wantProposals(1)
	c.die("save-after proposal approved", approve)
	c.startMortal()
	c.wantConsent(true)
	c.wantProposals(0)
	c.judge(1, 1)
}

// keepingSettings: keyd keeps the settings that are in force, and a second operator approves a change of them. The new
// settings are in force or not, also after a restart, and a proposal is consumed or waits.
func keepingSettings(c *crash) {
	rights.ToBecomeAnotherUser(c.t)
	c.needTwo("adopt")
	c.dieInTurn("save-before settings kept", "save-after settings kept")
	c.startMortal()
	c.waitRotated(1, "nothing")
	c.seal()
	c.retireAfter("1d")
	c.asMember(asker, asker, "reload")
	c.waitDiffers()
	id := string(c.wantProposals(1)[0].ID)

	approve := func() { c.asMember(approver, asker, "approve", id, "--yes", "--reason", "drill") }
	c.die("save-before proposal approved", approve)
	c.startMortal()
	c.wantProposals(1)
	c.waitDiffers()
	c.die("save-after proposal approved", approve)
	c.startMortal()
	c.wantProposals(0)
	if a := c.asMember(asker, asker, "reload"); a.code != 0 {
		c.t.Errorf("the approved settings are not in force: exit %d: %s%s", a.code, a.stdout, a.stderr)
	}
	c.judge(1, 1)
}

// wantProposals returns the acts that wait for a second operator, which must be so many.
func (w *world) wantProposals(n int) (list []status.Proposal) {
	w.t.Helper()
	w.wait("the daemon answers", func(status.Snapshot, status.Key) bool { return true })
	if err := json.Unmarshal([]byte(w.must("approvals", "--json")), &list); err != nil || len(list) != n {
		w.t.Fatalf("%v: the proposals are %+v, want %d", err, list, n)
	}
	return list
}
