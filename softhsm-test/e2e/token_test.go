package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// A wiped token works like a healthy one: its sessions live, and it generates. So keyd must hold the key before it
// makes a new generation in it. When the token is back, the operator resumes the key, and keyd does the due work.
func TestFaultWipedTokenHoldsTheKeyUntilItIsRestored(t *testing.T) {
	t.Parallel()
	f := &faulty{newWorld(t, nil)}
	f.start()
	f.waitGeneration(1)
	f.seal()
	child := childOf(f.daemon.cmd.Process.Pid)
	backup := f.token.Copy(t)

	f.token.Wipe(t)
	f.must("rotate", "--now", keyName, "--no-wait", "--reason", "the token was wiped a moment ago")
	f.waitHold(key.HoldObjectMissing)
	f.wantContains(f.key().Hold.Reason, "generation 1", "the token was wiped", "keyd adopt")
	f.wantUp()
	if childOf(f.daemon.cmd.Process.Pid) != child {
		t.Error("the HSM side was restarted: the test did not show a token that looks healthy")
	}
	f.wantVersions(1)
	if n := f.imports(vaultHost); n != 1 {
		t.Errorf("%d imports, not 1", n)
	}
	f.wantOpen()
	if n := len(f.key().Generations); n != 1 {
		t.Errorf("%d generations, though the token holds none: a pair was made in the wiped token", n)
	}

	f.stop()
	f.token.Restore(t, backup)
	f.start()
	f.waitHold(key.HoldObjectMissing) // an operator ends it
	f.must("resume", keyName, "--reason", "the token was put back")
	f.waitGeneration(2) // which was requested while the token was gone
	report(f.harm(2))
}

func TestFaultPINThatTheLibraryRefusesIsTriedOnceUntilThePINFileChanges(t *testing.T) {
	notInTheSample(t)
	t.Parallel()
	f := newFaulty(t, nil)
	f.start()
	f.waitGeneration(1)
	f.seal()
	logins := f.called("C_Login")
	f.misbehave("C_Login * before rv 0xA0")
	for n := range 3 { // each new process would have its own try
		f.killHSMSide()
		f.await("a new HSM side has judged the PIN", func() bool {
			return strings.Count(f.daemon.log.String(), "the HSM side is degraded") > n
		})
	}
	f.must("rotate", "--now", keyName, "--no-wait", "--reason", "while the PIN is refused")
	f.waitShown("the token refused")
	f.wantUp()
	if n := f.called("C_Login") - logins; n != 1 {
		t.Errorf("the PIN was tried %d times, not once", n)
	}

	f.misbehave()
	// The PIN was right after all: the test removes the file that the error says to remove.
	if err := os.Remove(filepath.Join(f.dir, "state", "hsm", "pin-tried.json")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.token.PINFile, []byte(f.token.PIN+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.waitGeneration(2)
	report(f.harm(2))
}

func TestAStandardKWPIsPreferredToTheAmbiguousNumber(t *testing.T) {
	t.Parallel()
	f := newFaulty(t, nil)
	f.env = append(f.env, "FAULTMODULE_KWP=1")
	f.start()
	f.wait("status shows the token", func(s status.Snapshot, _ status.Key) bool {
		if info := s.HSM.Info; f.token.Conf == "" && info.Model != "" && info.Model+info.Firmware != "SoftHSM v22.6" {
			t.Skipf("does not apply to %s %s: the fault module shows 0x210A as 0x210B, and only SoftHSM 2.6 is "+
				"known to have RFC 5649 as 0x210A alone", info.Model, info.Firmware)
		}
		return s.HSM.Info.Model != ""
	})
	f.waitGeneration(1)
	f.wait("status shows the mechanism", func(s status.Snapshot, _ status.Key) bool {
		return s.HSM.Info.Wrap == "CKM_AES_KEY_WRAP_KWP (0x210B)"
	})
	f.seal()
	f.harm(1)
}

// The figure depends on the machine, so the test prints it and does not judge it.
func TestFaultAfterAKilledHSMSideTheNextProofsPass(t *testing.T) {
	notInTheSample(t)
	t.Parallel()
	w := newWorld(t, func(s *settings) { s.spec, s.newest = "RSA-4096", time.Second })
	w.start()
	w.waitGeneration(1)
	passed := func() (at time.Time) {
		for _, p := range w.key().Proofs {
			if p.Outcome == key.Passed {
				at = p.PassedAt
			}
		}
		return at
	}
	var took []time.Duration
	for range 3 {
		killed := time.Now()
		w.killHSMSide()
		w.wait("a proof passes", func(status.Snapshot, status.Key) bool { return passed().After(killed) })
		took = append(took, passed().Sub(killed))
	}
	t.Logf("from a killed HSM side to the next proof, with health.newest 1s: %v", took)
	w.seal()
	report((&faulty{w}).harm(1))
}

func (w *world) killHSMSide() {
	w.t.Helper()
	child := childOf(w.daemon.cmd.Process.Pid)
	if child == 0 {
		w.t.Fatal("no HSM side runs")
	}
	if err := syscall.Kill(child, syscall.SIGKILL); err != nil {
		w.t.Fatal(err)
	}
}
