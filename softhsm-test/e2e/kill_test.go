package e2e_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/status"
	softhsmtest "github.com/keyd-project/keyd/softhsm-test"
)

// mortal is a world whose two processes die at a chosen kill point.
func mortal(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, func(s *settings) { s.vaults = []string{"weu", "mhsm"} })
	w.env = append(w.env, "KEYD_KILL_FILE="+w.path("kill"))
	return w
}

func (w *world) startMortal() { w.startAs(built.mortal) }

// arm makes the next process that passes the point die there.
func (w *world) arm(point string) {
	w.t.Helper()
	w.write("kill.new", point)
	if err := os.Rename(w.path("kill.new"), w.path("kill")); err != nil {
		w.t.Fatal(err)
	}
}

// startToDie starts a daemon that dies at the point, but not before its HSM side has logged in: keyd risks at most two
// deaths during a login, and SoftHSM its token in each. Until then no vault answers.
func (w *world) startToDie(point string) {
	w.t.Helper()
	held := w.emu.Fail(emulator.Rule{Hold: true})
	defer held.Clear()
	w.startMortal()
	w.wait("the HSM side is up",
		func(s status.Snapshot, _ status.Key) bool { return s.HSM.State() == status.HSMUp })
	w.arm(point)
}

// struck reports whether a process died at the armed point.
func (w *world) struck() bool {
	_, err := os.Stat(w.path("kill"))
	return os.IsNotExist(err)
}

// awaitDeath waits until the daemon has killed itself at the point.
func (w *world) awaitDeath(point string) {
	w.t.Helper()
	w.awaitEnd()
	if !w.struck() {
		w.t.Fatalf("the daemon ended elsewhere than at %q; its log:\n%s", point, w.daemon.log)
	}
	w.daemon = nil
	w.wantToken()
}

// tokenPatience: SoftHSM may hide a token while a process logs in.
const tokenPatience = 10 * time.Second

// wantToken recognises a fault of SoftHSM 2.6.1 itself: it rewrites token.object in place at every login, and a kill
// at that moment destroys the token.
func (w *world) wantToken() {
	w.t.Helper()
	if w.token.Conf == "" {
		return
	}
	var shown string
	err := poll(tokenPatience, func() (ok bool) {
		shown, ok = shows(w.token, w.env)
		return ok
	}, nil)
	switch {
	case err == nil:
	case w.onTokenLost != nil:
		w.onTokenLost(shown)
	default:
		w.t.Fatalf("SoftHSM has lost its token in the kill, which is SoftHSM's fault and not keyd's: run the test "+
			"again: %s", shown)
	}
}

// shows reports whether SoftHSM shows the token, and what it shows.
func shows(token *softhsmtest.Token, env []string) (string, bool) {
	cmd := exec.Command("softhsm2-util", "--show-slots")
	cmd.Env = append(slices.Clone(env), token.Environ()...)
	out, err := cmd.CombinedOutput()
	return string(out), err == nil && strings.Contains(string(out), token.Label)
}

// ask requests a rotation. The daemon may die before it answers.
func (w *world) ask() {
	w.t.Helper()
	if err := poll(patience, func() bool { _, up := w.look(); return up }, w.daemon.ended); err != nil {
		w.t.Fatalf("the daemon does not answer: %v; its log:\n%s", err, w.daemon.log)
	}
	w.cli("rotate", "--now", keyName, "--no-wait", "--reason", "drill")
}

// networkPoints are a sample of the boundaries of a rotation's steps on the network side; `make crashtest` kills at
// all of them. TestAKillJustBeforeAnImport covers an import that is intended and not yet sent when the process dies.
var networkPoints = []string{"generate-after", "save-before import intended", "import-after:2",
	"save-before rotation finished"}

func TestAKilledDaemonCompletesItsRotationOnce(t *testing.T) {
	t.Parallel()
	w := mortal(t)
	w.startMortal()
	w.waitGeneration(1)
	n := 1
	for _, point := range networkPoints {
		w.seal()
		w.arm(point)
		w.ask()
		w.awaitDeath(point)
		w.startMortal()
		n++
		w.waitRotated(n, point)
	}
	w.wantOpen()
	w.wantContains(w.must("audit", "--verify"), "internally consistent")
	w.stop()
	w.wantPairs(n)
}

// waitRotated waits until generation n is finished and no request is open, and requires one version for each
// generation in each vault.
func (w *world) waitRotated(n int, point string) {
	w.t.Helper()
	var last status.Key
	err := poll(patience, func() bool {
		s, ok := w.look()
		if !ok || len(s.Keys) != 1 {
			return false
		}
		last = s.Keys[0]
		return len(last.Requests) == 0 && finished(last, n) && last.State == status.StateOK
	}, w.daemon.ended)
	if err != nil {
		text, _ := json.MarshalIndent(last, "", " ")
		w.t.Fatalf("killed at %q, generation %d is not finished: %v; last seen: %s", point, n, err, text)
	}
	if len(last.Generations) != n {
		w.t.Errorf("killed at %q, there are %d generations, not %d", point, len(last.Generations), n)
	}
	for _, v := range w.set.vaults {
		if got := len(w.versions(v)); got != n {
			w.t.Errorf("killed at %q, vault %s holds %d versions, not %d", point, v, got, n)
		}
	}
}

func TestADaemonKilledWhileItMakesKEKsMakesOneForEachVault(t *testing.T) {
	t.Parallel()
	for _, v := range []string{"weu", "mhsm"} { // with both at once the test could not tell which one keyd is making
		t.Run(v, func(t *testing.T) {
			t.Parallel()
			w := mortal(t)
			w.set.vaults = []string{v}
			w.configure()
			for _, point := range []string{
				"save-before key exchange key intended", "kek-after",
				"save-before key exchange key made", "save-after key exchange key made",
				"save-before key exchange key taken into use", "save-after key exchange key taken into use",
			} {
				w.startToDie(point)
				w.awaitDeath(point)
			}
			w.startMortal()
			w.waitRotated(1, "the KEKs")
			if n := len(w.vault[v].Versions("keyd-kek")); n != 1 {
				t.Errorf("vault %s has %d KEKs, not 1", v, n)
			}
			w.stop()
			w.wantPairs(1)
		})
	}
}

// A KEK that was intended and not sent may still appear, like an import.
func TestADaemonKilledJustBeforeItMakesAKEKWaitsAndMakesOne(t *testing.T) {
	t.Parallel()
	w := mortal(t)
	const point = "save-after key exchange key intended"
	w.startToDie(point)
	w.awaitDeath(point)
	w.later(12 * time.Minute)
	if s := w.inside().settle(); s.Kind != plan.Idle {
		t.Errorf("after the wait, the loop ends with %s: %s", s.Kind, s.Why)
	}
	for _, v := range w.set.vaults {
		if n := len(w.vault[v].Versions("keyd-kek")); n != 1 {
			t.Errorf("vault %s has %d KEKs, not 1", v, n)
		}
	}
	w.wantVersions(1)
}

// A recorded placement that was not sent looks like one whose answer was lost: keyd imports nothing until that is
// certain, which takes 3 minutes for a vault and 11 for a Managed HSM. The test moves the clock instead of waiting.
func TestAKillJustBeforeAnImportIsWaitedOutAndThenImportedOnce(t *testing.T) {
	for _, at := range []struct{ point, vault, host string }{
		{"import-before", "weu", vaultHost}, {"import-before:2", "mhsm", hsmHost},
	} {
		t.Run(at.vault, func(t *testing.T) {
			t.Parallel()
			w := mortal(t)
			w.arm(at.point)
			w.startMortal()
			w.awaitDeath(at.point)
			w.start()
			w.wait("status explains what is waited for", func(_ status.Snapshot, k status.Key) bool {
				return strings.Contains(k.Waiting, "whether vault "+at.vault+" took the import; it will know at")
			})
			if n := w.imports(at.host); n != 0 {
				t.Errorf("%d imports were sent before the wait was over", n)
			}
			w.stop()

			w.later(12 * time.Minute)
			if s := w.inside().settle(); s.Kind != plan.Idle {
				t.Errorf("after the wait, the loop ends with %s: %s", s.Kind, s.Why)
			}
			w.wantVersions(1)
			w.wantPairs(1)
		})
	}
}

// hsmPoints are a sample of the boundaries on the HSM side. The supervisor's pauses
// grow with each death.
var hsmPoints = []string{"hsm-generate-after", "hsm-relabel-after", "hsm-wrap-after:2"}

// firstHSMPoints are passed only on the way to the first generation, in this order. One is in a login: keyd risks at
// most a second death in one.
var firstHSMPoints = []string{"hsm-login-after", "hsm-trust-after"}

func TestAKilledHSMSideIsRestartedAndTheRotationCompletesOnce(t *testing.T) {
	t.Parallel()
	w := mortal(t)
	w.startMortal()
	w.waitRotated(1, "nothing")
	n := 1
	for _, point := range hsmPoints {
		w.arm(point)
		w.ask()
		n++
		w.waitRotated(n, point)
		w.awaitStrike()
	}
	w.wantContains(w.must("audit", "--verify"), "internally consistent")
	w.stop()
	w.wantPairs(n)
}

func TestAnHSMSideKilledBeforeTheFirstGenerationMakesOne(t *testing.T) {
	t.Parallel()
	w := mortal(t)
	w.arm(firstHSMPoints[0])
	w.startMortal()
	w.awaitStrike()
	for _, point := range firstHSMPoints[1:] {
		w.arm(point)
		w.awaitStrike()
	}
	w.waitRotated(1, firstHSMPoints[len(firstHSMPoints)-1])
	w.stop()
	w.wantPairs(1)
}

// awaitStrike waits until a process died at the armed point.
func (w *world) awaitStrike() {
	w.t.Helper()
	if err := poll(patience, w.struck, w.daemon.ended); err != nil {
		point, _ := os.ReadFile(w.path("kill"))
		w.t.Fatalf("no process died at %q: %v", point, err)
	}
	w.wantToken()
}

func TestAKillOfTheHSMSideFromOutsideIsSurvived(t *testing.T) {
	t.Parallel()
	w := rotated(t, nil)
	child := childOf(w.daemon.cmd.Process.Pid)
	if child == 0 {
		t.Fatal("the daemon has no HSM side")
	}
	p, err := os.FindProcess(child)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	w.must("rotate", "--now", keyName, "--reason", "after the kill", "--timeout", "80s")
	w.wantVersions(2)
	w.wantOpen()
	w.stop()
	w.wantPairs(2)
}
