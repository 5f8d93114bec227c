package chain_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/chain"
)

// Whatever keyd is about to do, or has done, outside is the leader's. An enabling is only intended when an operator
// asks for it; the leader does it.
func TestNoEventOfAnEffectIsAnybodys(t *testing.T) {
	source, err := os.ReadFile("event.go")
	if err != nil {
		t.Fatal(err)
	}
	known, effects := map[chain.Event]bool{}, 0
	for _, m := range regexp.MustCompile(`(?m)^\t\w+ +Event = "([^"]+)"`).FindAllStringSubmatch(string(source), -1) {
		e := chain.Event(m[1])
		known[e] = true
		if !strings.HasSuffix(m[1], "intended") || e == chain.EnableIntended {
			continue
		}
		if effects++; e.Anybodys() {
			t.Errorf("%q is anybody's", e)
		}
	}
	if effects < 5 {
		t.Errorf("only %d intents were read", effects)
	}
	for _, e := range []chain.Event{chain.Imported, chain.Disabled, chain.Destroyed, chain.KEKMade, chain.KeyHeld,
		chain.CheckpointSigned, "an event that nobody knows"} {
		if e.Anybodys() {
			t.Errorf("%q is anybody's", e)
		}
	}
	for _, e := range []chain.Event{chain.RotationRequested, chain.KeyPaused, chain.Approved, chain.DaemonStarted} {
		if !e.Anybodys() || !known[e] {
			t.Errorf("%q is the leader's", e)
		}
	}
}
