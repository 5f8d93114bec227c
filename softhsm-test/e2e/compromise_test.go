package e2e_test

import (
	"slices"
	"testing"

	"github.com/keyd-project/keyd/internal/status"
)

// reminds reports whether a problem tells of enabled versions of compromised material.
func reminds(s status.Snapshot) bool {
	return slices.ContainsFunc(s.Problems, func(p status.Problem) bool { return p.Runbook == "keydcompromisedenabled" })
}

func TestKeydRemindsOfCompromisedVersionsUntilTheyAreDisabledOrAcknowledged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(*settings) {})
	w.start()
	w.waitGeneration(1)
	if a := w.cli("rotate", "--now", keyName, "--compromise", "--reason", "a stolen backup"); a.code != 2 {
		t.Errorf("without a yes it exits %d, want 2: %s", a.code, a.stderr)
	}
	shown := w.must("rotate", "--now", keyName, "--compromise", "--yes", "--reason", "a stolen backup")
	versions := w.vault["weu"].Versions(keyName)
	w.wantContains(shown, "generation 2  weu", "/keys/"+keyName+"/"+versions[1].ID+"\n")
	w.wait("status reminds of the first version", func(s status.Snapshot, k status.Key) bool {
		return reminds(s) && len(k.Exposed) == 1 && k.Exposed[0].Version == versions[0].ID
	})
	w.wantContains(w.must("prove", keyName), versions[0].ID+"  1    passed", versions[1].ID+"  2    passed")
	w.wantContains(w.must("audit", "--key", keyName), "proof requested", `passed="2"`)

	if err := w.vault["weu"].SetEnabled(keyName, versions[0].ID, false); err != nil {
		t.Fatal(err)
	}
	w.stop()
	w.start() // looks at once
	w.wait("the first version is disabled", func(s status.Snapshot, k status.Key) bool {
		return s.Ready && k.State == status.StateOK && !reminds(s)
	})

	w.must("rotate", "--now", keyName, "--compromise", "--yes", "--reason", "another one")
	w.wait("status reminds of the second version", func(s status.Snapshot, k status.Key) bool {
		return reminds(s) && len(k.Exposed) == 1 && k.Exposed[0].Version == versions[1].ID
	})
	w.must("acknowledge", keyName, "--reason", "an archive is read with it")
	if s, ok := w.look(); !ok || reminds(s) {
		t.Errorf("after the acknowledgement the problems are %+v", s.Problems)
	}
	w.wantContains(w.must("audit", "--verify"), "internally consistent")
}
