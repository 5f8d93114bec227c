package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/status"
)

// waitSpare waits until the spare of a number is the only one, and ready.
func (w *world) waitSpare(n int) {
	w.t.Helper()
	w.wait(fmt.Sprintf("spare generation %d is ready", n), func(_ status.Snapshot, k status.Key) bool {
		s := k.Spares
		return s != nil && s.Ready == 1 && len(s.Generations) == 1 && s.Generations[0].Number == n
	})
}

func TestARotationWithASpareMakesNoPairBeforeItsImport(t *testing.T) {
	t.Parallel()
	w := spied(t, func(s *settings) { s.spares = 1 })
	w.start()
	w.waitGeneration(1)
	w.seal()
	w.waitSpare(2)
	w.wantContains(w.must("status", keyName), "1 of 1 ready")
	before := len(w.spyLog())
	w.must("rotate", "--now", keyName, "--reason", "a drill")
	w.seal()
	w.waitSpare(3)
	log := w.spyLog()[before:]
	wrapped, made := strings.Index(log, ": C_WrapKey\n"), strings.Index(log, ": C_GenerateKeyPair\n")
	if wrapped < 0 || made < wrapped {
		t.Errorf("the first C_WrapKey is at byte %d of what the spy saw since the request, and the first "+
			"C_GenerateKeyPair at %d", wrapped, made)
	}
	w.wantVersions(2)
	w.wantOpen()
	w.wantContains(w.must("audit", "receipt", keyName), "made in advance")
	w.wantContains(w.must("audit", "--verify"), "internally consistent")

	// Who has the key's material may have that of the spare: the next pair is new, and the spare's is destroyed.
	w.must("rotate", "--now", keyName, "--compromise", "--yes", "--reason", "a stolen backup")
	w.waitSpare(5)
	w.wantVersions(3)
	w.stop()
	var labels []string
	for _, o := range w.pairs() {
		labels = append(labels, strings.TrimPrefix(o.Label.String(), "keyd/"+w.instance()+"/"+keyName+"/"))
	}
	slices.Sort(labels)
	if got := strings.Join(labels, " "); got != "1 2 4 5/pending" {
		t.Errorf("the token has the pairs %s; want three generations, and a spare that was never wrapped", got)
	}
	w.wantOpen()
}
