package e2e_test

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/softhsm-test/rights"
)

// swap changes the configuration, as one operator does who may write its files.
func (w *world) swap(old, with string) {
	w.t.Helper()
	text, err := os.ReadFile(w.path("keyd.yaml"))
	if err != nil {
		w.t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		w.t.Fatalf("%q is not in the configuration", old)
	}
	w.write("keyd.yaml", strings.Replace(string(text), old, with, 1))
}

// waitDiffers waits until the daemon says that the files have settings that are not in force.
func (w *world) waitDiffers() {
	w.t.Helper()
	w.wait("the files' settings wait", func(s status.Snapshot, _ status.Key) bool {
		return slices.ContainsFunc(s.Problems, func(p status.Problem) bool {
			return strings.Contains(p.Text, "differ from what is in force")
		})
	})
}

// bringing are the ways by which one operator has keyd read what they wrote. Each ends with a generation more.
var bringing = []struct {
	name string
	way  func(w *world)
}{
	{"by no reload at all", func(*world) {}},
	{"by a reload", func(w *world) {
		if a := w.asMember(asker, asker, "reload"); a.code != 5 || !strings.Contains(a.stderr, "keyd approve") {
			w.t.Errorf("reload: exit %d: %s%s", a.code, a.stdout, a.stderr)
		}
	}},
	{"by root's reload", func(w *world) {
		if a := w.cli("reload"); a.code != 5 {
			w.t.Errorf("reload: exit %d: %s%s", a.code, a.stdout, a.stderr)
		}
	}},
	{"by a signal", func(w *world) {
		if err := w.daemon.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			w.t.Fatal(err)
		}
		w.waitDiffers()
	}},
	{"by a restart", func(w *world) {
		w.stop()
		w.start()
		w.waitDiffers()
	}},
	{"by approving it alone", func(w *world) {
		w.asMember(asker, asker, "reload")
		a := w.asMember(asker, asker, "approve", string(w.wantProposals(1)[0].ID), "--yes", "--reason", "it is fine")
		if a.code != 4 || !strings.Contains(a.stderr, "another person must approve it") {
			w.t.Errorf("approve: exit %d: %s%s", a.code, a.stdout, a.stderr)
		}
	}},
	{"by taking approvals away", func(w *world) {
		w.swap("approvals: {", "#approvals: {")
		w.asMember(asker, asker, "reload")
		w.stop()
		w.start()
		w.waitDiffers()
	}},
}

// One operator names another vault for a key, or pins a key exchange key that somebody else owns. The HSM side, which
// reads the files itself, would wrap for both at once; keyd asks for nothing of it before a second operator approves.
func TestInsiderOneOperatorBringsNoKeyElsewhere(t *testing.T) {
	rights.ToBecomeAnotherUser(t)
	t.Run("to another vault", func(t *testing.T) {
		t.Parallel()
		w := twoOperators(t)
		w.swap("keys:\n", "  mhsm: {url: \"https://"+hsmHost+"\", kek: {bits: 2048, trust: first-use}}\nkeys:\n")
		w.swap("vaults: [weu]", "vaults: [weu, mhsm]")
		w.bring(func(way string) {
			if got := w.versions("mhsm"); len(got) > 0 {
				t.Fatalf("%s: the other vault has versions %v", way, got)
			}
		})
		w.approved()
		w.wait("the other vault has the key", func(status.Snapshot, status.Key) bool {
			return len(w.versions("mhsm")) > 0
		})
		w.wantOpen()
		w.must("audit", "checkpoint")
		files := map[string]string{"f": w.must("audit", "export"), "pub.pem": w.must("audit", "key")}
		if a := w.offline(files, "audit", "verify", "f", "--key", "pub.pem"); a.code != 0 {
			t.Errorf("the auditor: exit %d: %s%s", a.code, a.stdout, a.stderr)
		}
		w.wantContains(files["f"], "act proposed", "proposal approved", "settings kept", "configuration changed")
		w.stop()
	})
	t.Run("to another key exchange key", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil)
		w.start()
		w.waitGeneration(1)
		old := w.kekPrint()
		w.swap("trust: first-use", "fingerprints: [\""+string(old)+"\"]")
		w.needTwo("adopt")
		w.must("reload") // no rule is in force yet
		if _, err := w.vault["weu"].ReplaceKEK("keyd-kek"); err != nil {
			t.Fatal(err)
		}
		evil := w.kekPrint()
		// With the old pin beside it, so that the HSM side still wraps for that.
		w.swap(string(old)+"\"]", string(old)+"\", \""+string(evil)+"\"]")
		w.bring(func(way string) {
			for _, g := range w.key().Generations {
				if at := g.Placements[0]; at.KEKPrint == evil {
					t.Fatalf("%s: generation %d was wrapped for the other key exchange key", way, g.Number)
				}
			}
		})
		w.approved()
		w.wait("the other key exchange key is in use", func(s status.Snapshot, _ status.Key) bool {
			k := s.Vaults[0].ActiveKEK()
			return k != nil && k.Fingerprint == evil
		})
		w.stop()
	})
}

// twoOperators is a world in which a change of the settings needs a second operator, with one generation.
func twoOperators(t *testing.T) *world {
	w := newWorld(t, nil)
	w.needTwo("adopt")
	w.start()
	w.waitGeneration(1)
	w.seal()
	return w
}

// bring has keyd read the files in each way, and asks it for a generation after that.
func (w *world) bring(want func(way string)) {
	w.t.Helper()
	for i, b := range bringing {
		b.way(w)
		w.rotated(i + 2)
		want(b.name)
	}
}

func (w *world) rotated(n int) {
	w.t.Helper()
	w.must("rotate", "--now", keyName, "--reason", "as ever", "--no-wait")
	w.waitGeneration(n)
}

// approved has the second operator approve what the first one proposes.
func (w *world) approved() {
	w.t.Helper()
	w.asMember(asker, asker, "reload")
	a := w.asMember(approver, asker, "approve", string(w.wantProposals(1)[0].ID), "--yes", "--reason", "they called me")
	if a.code != 0 {
		w.t.Fatalf("approve: exit %d: %s%s", a.code, a.stdout, a.stderr)
	}
}
