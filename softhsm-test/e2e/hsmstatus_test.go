package e2e_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/status"
)

// An operator can read what keeps the HSM side from its work, whether it is a child of the daemon or a service, and
// no text sends them to a unit that does not exist.
func TestStatusShowsWhyAChildCannotWork(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do    func(w *world)
		line  string // of keyd check
		state string
		want  []string
	}{
		"another label": {
			func(w *world) { w.token.Label = "absent" }, "answers", status.HSMDown,
			[]string{`no token with label "absent"`, "hsm.token"},
		},
		"three tokens of one label": {
			func(w *world) { w.token.AddTwin(w.t); w.token.AddTwin(w.t) }, "answers", status.HSMDown,
			[]string{"shows 3 times a token with label", "hsm.serial"},
		},
		"no such module": {
			func(w *world) { w.set.module = "/nonexistent/libhsm.so" }, "answers", status.HSMDown,
			[]string{"/nonexistent/libhsm.so cannot be loaded"},
		},
		"a PIN file of Windows": {
			func(w *world) { w.pin(w.token.PIN + "\r\n") }, "able to work", status.HSMDegraded,
			[]string{"byte %d is a carriage return (0x0d)", "read -rsp"},
		},
		"a space behind the PIN": {
			func(w *world) { w.pin(w.token.PIN + " \n") }, "able to work", status.HSMDegraded,
			[]string{"the token refused the PIN", "byte %d of it, the last, is a space"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			c.do(w)
			for i, text := range c.want {
				c.want[i] = strings.ReplaceAll(text, "%d", fmt.Sprint(len(w.token.PIN)+1))
			}
			w.configure()
			w.start()
			w.wait("the HSM side is seen to be "+c.state,
				func(s status.Snapshot, _ status.Key) bool { return s.HSM.State() == c.state })
			shown := w.must("status")
			row := regexp.MustCompile(`(?m)^HSM .*` + c.state + ` .*since .*$`).FindString(shown)
			w.wantContains(row, c.want...)
			lines, code := w.check()
			if code != 1 {
				t.Errorf("keyd check exits %d", code)
			}
			i := slices.IndexFunc(lines, func(l status.Check) bool { return l.Area == "hsm" && l.Name == c.line })
			if i < 0 {
				t.Fatalf("no line %q in %+v", c.line, lines)
			}
			w.wantContains(lines[i].Detail, c.want...)
			// The package's files have the roles, and the package has that name, too.
			lines = slices.DeleteFunc(lines, func(l status.Check) bool { return l.Area == "role" })
			text, err := json.Marshal(lines)
			if err != nil {
				t.Fatal(err)
			}
			for _, bad := range []string{"reset by peer", "keyd-hsm", w.token.PIN} {
				for _, screen := range []string{shown, string(text), w.must("status", "--json")} {
					if strings.Contains(screen, bad) {
						t.Errorf("%q is shown:\n%s", bad, screen)
					}
				}
			}
		})
	}
}

func TestTheHSMServiceReportsItsStateToSystemdAndStatus(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.set.timeouts = fmt.Sprintf(", socket: %q, user: %q, state_dir: %q",
		w.path("hsm.sock"), fmt.Sprint(os.Getuid()), w.path("hsm"))
	w.configure()
	w.pin("wrong\n")
	service, notified := w.startService()
	w.start()

	const refused = "the token refused the PIN"
	w.wait("the HSM side is degraded",
		func(s status.Snapshot, _ status.Key) bool { return s.HSM.State() == status.HSMDegraded })
	w.wantContains(w.must("status"), "degraded", refused, "seen ")
	w.await("systemd knows it", func() bool { return strings.HasPrefix(notified(), "degraded: ") })
	w.wantContains(notified(), refused)

	w.pin(w.token.PIN + "\n")
	w.wait("the HSM side is up", func(s status.Snapshot, _ status.Key) bool { return s.HSM.State() == status.HSMUp })
	w.await("systemd knows it", func() bool { return notified() == "serving token "+w.token.Label })
	w.waitGeneration(1)

	stopped := time.Now()
	if err := service.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var down status.HSM
	w.wait("the HSM side is down",
		func(s status.Snapshot, _ status.Key) bool { down = s.HSM; return down.State() == status.HSMDown })
	// The end is seen as it happens. A busy machine has almost the 15 s until the next look at the HSM side.
	if late := down.Since.Sub(stopped); late > 12*time.Second {
		t.Errorf("it was said to be up for %v after its end", late)
	}
	w.wait("the reason names the service", func(s status.Snapshot, _ status.Key) bool {
		return strings.Contains(s.HSM.Error, "systemctl status keyd-hsm")
	})
	w.await("systemd knows of the end", func() bool { return notified() == "stopped" })
	lines, _ := w.check()
	w.wantLine(lines, "hsm", w.token.Label, "answers", status.CheckFailed, "hsm.sock", "journalctl -u keyd-hsm")
}

func (w *world) pin(content string) {
	w.t.Helper()
	if err := os.WriteFile(w.token.PINFile, []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) await(what string, cond func() bool) {
	w.t.Helper()
	if err := poll(patience, cond, nil); err != nil {
		w.t.Fatalf("waiting until %s: %v", what, err)
	}
}

// startService starts the HSM side as systemd does; notified returns the last status that it gave systemd.
func (w *world) startService() (service *exec.Cmd, notified func() string) {
	w.t.Helper()
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: w.path("notify"), Net: "unixgram"})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = socket.Close() })
	ready := make(chan struct{})
	var mu sync.Mutex
	var last string
	go func() {
		buffer := make([]byte, 8192)
		for {
			n, err := socket.Read(buffer)
			if err != nil {
				return
			}
			for line := range strings.Lines(string(buffer[:n])) {
				line = strings.TrimSuffix(line, "\n")
				if text, ok := strings.CutPrefix(line, "STATUS="); ok {
					mu.Lock()
					last = text
					mu.Unlock()
				}
				if line == "READY=1" {
					close(ready)
				}
			}
		}
	}()
	log := new(syncBuffer)
	service = exec.Command(built.keyd, "hsm", "--config", w.path("keyd.yaml"))
	service.Env = append(slices.Clone(w.env), "NOTIFY_SOCKET="+w.path("notify"), "WATCHDOG_USEC=3000000")
	service.Stdout, service.Stderr = log, log
	if err := service.Start(); err != nil {
		w.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = service.Wait(); close(ended) }()
	w.t.Cleanup(func() {
		_ = service.Process.Kill()
		<-ended
		if w.t.Failed() {
			w.t.Logf("the HSM side's log:\n%s", log)
		}
	})
	select {
	case <-ready:
	case <-ended:
		w.t.Fatalf("the HSM side ended:\n%s", log)
	case <-time.After(patience):
		w.t.Fatalf("the HSM side is not ready:\n%s", log)
	}
	return service, func() string { mu.Lock(); defer mu.Unlock(); return last }
}
