package plan_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

// An operator sees each move that has not ended well: how far it is, and what is in its way.
func TestEachMoveThatHasNotEndedSaysWhatIsInItsWay(t *testing.T) {
	left := func() *world { return monthIn(weu, pinned(aiID, 1), pinned(sqlID, 1)) }
	waits := func(id, by, why string) plan.Move {
		return plan.Move{Consumer: id, State: plan.MoveWaits, By: by, Vault: weu.URL, From: version(1), To: version(2),
			Why: why}
	}
	for _, c := range []struct {
		name string
		w    *world
		want []plan.Move
	}{
		{"nobody is to be moved", left(), nil},
		{"both wait for their turn", left().moved(), []plan.Move{waits(aiID, "", "it is next"),
			waits(sqlID, "", "it is next")}},
		{"one is on the newest version", monthIn(weu, pinned(aiID, 2), pinned(sqlID, 1)).moved(),
			[]plan.Move{waits(sqlID, "", "it is next")}},
		{"an operator asked for one", left().requested(sqlID), []plan.Move{waits(sqlID, "uid 7", "it is next")}},
		{"the key is held", left().requested(sqlID).held(key.HoldPaused),
			[]plan.Move{waits(sqlID, "uid 7", "the key is held: a test")}},
		{"a vault cannot be seen", left().requested(sqlID).away(weu), []plan.Move{{Consumer: sqlID,
			State: plan.MoveWaits, By: "uid 7", Why: "vault weu cannot be seen: connection refused"}}},
		{"the consumer cannot be seen",
			monthIn(weu, but(pinned(sqlID, 1), func(c *record.ConsumerSeen) { c.Err = errForbidden })).
				requested(sqlID), []plan.Move{{Consumer: sqlID, State: plan.MoveWaits, By: "uid 7",
				Why: "keyd cannot see it: 403: no right to read it"}}},
		{"it cannot be seen, and nobody asked",
			monthIn(weu, but(pinned(sqlID, 1), func(c *record.ConsumerSeen) { c.Err = errForbidden })).moved(), nil},
		{"keyd moves one", left().moved().moving(aiID, 1, 2), []plan.Move{
			{Consumer: aiID, State: plan.MoveRunning, Vault: weu.URL, From: version(1), To: version(2)},
			waits(sqlID, "", "keyd moves consumer aidemo first")}},
		{"keyd could not move one", left().moved().moving(aiID, 1, 2).repointFailed(), []plan.Move{
			{Consumer: aiID, State: plan.MoveFailed, Vault: weu.URL, From: version(1), To: version(2), Why: "a test"},
			waits(sqlID, "", "keyd could not move consumer aidemo")}},
		{"a request lapsed", left().requested(sqlID).lapsed(sqlID), []plan.Move{
			{Consumer: sqlID, State: plan.MoveLapsed, By: "uid 7", Why: "a test"}}},
		{"and an operator asked again", left().requested(sqlID).lapsed(sqlID).requested(sqlID),
			[]plan.Move{waits(sqlID, "uid 7", "it is next")}},
		{"the key has left the configuration", left().moved().with(func(p *key.Policy) { p.Retained = true }), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := plan.Moves(c.w.input())
			for i := range got {
				got[i].Since = time.Time{}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func (w *world) lapsed(id string) *world {
	w.record.LapseRepoint(id, w.clock, "a test")
	return w
}
