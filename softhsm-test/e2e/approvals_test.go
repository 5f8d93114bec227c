package e2e_test

import (
	"os"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/softhsm-test/rights"
)

// Two users that every Debian has, so that keyd knows who they are.
const (
	asker    = 1 // daemon
	approver = 2 // bin
)

// One operator tries to call a key's material compromised alone: as themselves, as root, and by approving it.
func TestOneOperatorAloneDoesNothingThatTakesTwo(t *testing.T) {
	t.Parallel()
	rights.ToBecomeAnotherUser(t)
	w := newWorld(t, nil)
	w.needTwo("compromise")
	w.start()
	w.waitGeneration(1)

	compromise := []string{"rotate", "--now", keyName, "--compromise", "--yes", "--no-wait", "--reason", "leak"}
	if a := w.cli(compromise...); a.code != 4 || !strings.Contains(a.stderr, "needs two operators") {
		t.Errorf("root: exit %d: %s%s", a.code, a.stdout, a.stderr)
	}
	if a := w.asMember(asker, asker, compromise...); a.code != 5 {
		t.Fatalf("an operator: exit %d: %s%s", a.code, a.stdout, a.stderr)
	}
	approve := []string{"approve", string(w.wantProposals(1)[0].ID), "--yes", "--reason", "it did leak"}
	if a := w.asMember(asker, asker, approve...); a.code != 4 ||
		!strings.Contains(a.stderr, "another person must approve it") {
		t.Errorf("the one who asked approves: exit %d: %s%s", a.code, a.stdout, a.stderr)
	}
	if a := w.cli(approve...); a.code != 4 {
		t.Errorf("root approves: exit %d: %s%s", a.code, a.stdout, a.stderr)
	}
	w.wantVersions(1)
	if k := w.key(); len(k.Requests) != 0 {
		t.Errorf("it was requested: %+v", k.Requests)
	}
	if a := w.asMember(approver, asker, approve...); a.code != 0 {
		t.Fatalf("the second operator approves: exit %d: %s%s", a.code, a.stdout, a.stderr)
	}
	w.waitGeneration(2)
	w.wantContains(w.must("audit"), "act proposed", "proposal approved", "rotation requested")
	w.stop()
}

// needTwo has an act need a second operator, and makes two users operators.
func (w *world) needTwo(act string) {
	w.t.Helper()
	w.openTo(asker)
	text, err := os.ReadFile(w.path("keyd.yaml"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.write("keyd.yaml", strings.Replace(string(text), "control: {",
		"approvals: {acts: ["+act+"]}\ncontrol: {operators: [daemon, bin], ", 1))
}
