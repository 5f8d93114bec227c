package hsm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/key"
	softhsmtest "github.com/keyd-project/keyd/softhsm-test"
)

func up(r *rig) func() bool {
	return func() bool { ok, _, _ := r.sup.Up(); return ok }
}

func TestAKilledProcessIsStartedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.generate(t)
	pid := r.signal(t, syscall.SIGKILL)
	eventually(t, "another process runs", func() bool { now := r.sup.PID(); return now != 0 && now != pid })
	if _, err := r.PublicKey(t.Context(), id); err != nil {
		t.Errorf("after the restart: %v", err)
	}
}

func TestAStoppedProcessIsDetectedAndReplaced(t *testing.T) {
	t.Parallel()
	tok := softhsmtest.New(t)
	c := newChild(t, tok)
	c.Limits.Call = 5 * time.Second // a ping's limit is twice that, which a healthy process on a busy machine meets
	r := start(t, tok, c)
	eventually(t, "the process answers", up(r))
	pid := r.signal(t, syscall.SIGSTOP)
	eventually(t, "another process runs", func() bool { now := r.sup.PID(); return now != 0 && now != pid })
}

func TestAHungCallEndsTheProcess(t *testing.T) {
	t.Parallel()
	tok := softhsmtest.New(t)
	c := newChild(t, tok)
	c.Hang = filepath.Join(t.TempDir(), "hang")
	c.Config.GenerateTimeout = 15 * time.Second // enough for a pair that is made on a busy machine
	r := start(t, tok, c)
	if _, err := r.Describe(t.Context()); err != nil { // the self-test is done
		t.Fatal(err)
	}
	pid := r.sup.PID()
	if err := os.WriteFile(c.Hang, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := r.Generate(t.Context(), newID(t), "sa-cmk-key", 1, key.RSA2048, "")
	wantCode(t, err, Hung, key.Ambiguous)
	if err := os.Remove(c.Hang); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another process runs", func() bool { now := r.sup.PID(); return now != 0 && now != pid })
	r.generate(t)
}

func TestAGenerationWhoseAnswerIsLostIsAmbiguous(t *testing.T) {
	t.Parallel()
	tok := softhsmtest.New(t)
	c := newChild(t, tok)
	c.Hang = filepath.Join(t.TempDir(), "hang")
	r := start(t, tok, c)
	if _, err := r.Describe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.Hang, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	answer := make(chan error)
	go func() { answer <- r.Generate(t.Context(), newID(t), "sa-cmk-key", 1, key.RSA2048, "") }()
	eventually(
		t, "the generation has begun", func() bool { _, err := os.Stat(c.Hang + ".reached"); return err == nil },
	)
	r.signal(t, syscall.SIGKILL)
	wantCode(t, <-answer, Connection, key.Ambiguous)
}

func TestTheErrorOfACallWithoutAProcessSaysWhy(t *testing.T) {
	t.Parallel()
	tok := softhsmtest.New(t)
	absent := newChild(t, tok)
	absent.Config.Module = "/nonexistent/module.so"
	label := newChild(t, tok)
	label.Config.Token = "no-such-token"
	for name, c := range map[string]struct {
		argv  []string
		child child
		want  string
	}{
		"no such program": {
			[]string{"/nonexistent/keyd"}, newChild(t, tok), "start the HSM process: fork/exec /nonexistent/keyd",
		},
		"no such module": {argv(t), absent, "/nonexistent/module.so cannot be loaded"},
		"no such token":  {argv(t), label, `no token with label "no-such-token"`},
		"killed":         {[]string{"sh", "-c", "kill -9 $$"}, newChild(t, tok), "signal: killed"},
		"no word":        {[]string{"true"}, newChild(t, tok), "without a word"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startBy(t, c.argv, tok, c.child)
			eventually(t, "the reason is known", func() bool {
				_, _, reason := r.sup.Up()
				return reason != nil && strings.Contains(reason.Error(), c.want)
			})
			for range 3 { // the end of a process cuts one call off; another call waits for the next process
				ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
				defer cancel()
				_, err := r.Describe(ctx)
				if !IsCode(err, Connection) && !IsCode(err, Busy) || key.ClassOf(err) != key.Retry || up(r)() {
					t.Errorf("%v, up %v", err, up(r)())
				}
				if err != nil &&
					(!strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "reset by peer")) {
					t.Errorf("%v does not say: %s", err, c.want)
				}
			}
		})
	}
}

func TestAwaitEndReturnsWhyTheChildEnded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if _, err := r.Describe(t.Context()); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- r.AwaitEnd(t.Context()) }()
	eventually(t, "the end is seen", func() bool {
		if pid := r.sup.PID(); pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return len(ended) == 1
	})
	if err := <-ended; !IsCode(err, Connection) || err.Error() != "the HSM process ended: signal: killed" {
		t.Error(err)
	}
}

func TestStopEndsTheProcess(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if _, err := r.Describe(t.Context()); err != nil {
		t.Fatal(err)
	}
	pid := r.sup.PID()
	r.stop()
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the process is still there: %v", err)
	}
	if up(r)() {
		t.Error("the supervisor still reports it as up")
	}
}

func TestTheChildDoesNotSeeTheNetworkSidesEnvironment(t *testing.T) {
	got := childEnv([]string{
		"PATH=/bin", "HTTPS_PROXY=x", "https_proxy=x", "NO_PROXY=x", "AZURE_CLIENT_SECRET=x",
		"IDENTITY_HEADER=x", "MSI_SECRET=x",
		"NOTIFY_SOCKET=x", "WATCHDOG_USEC=1", "LISTEN_FDS=1", "SOFTHSM2_CONF=/c", "CREDENTIALS_DIRECTORY=/d",
		"ChrystokiConfigurationPath=/e",
	})
	want := []string{"PATH=/bin", "SOFTHSM2_CONF=/c", "CREDENTIALS_DIRECTORY=/d", "ChrystokiConfigurationPath=/e"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPausesGrowToALimit(t *testing.T) {
	for n, most := range map[int]time.Duration{
		1: 240 * time.Millisecond, 3: 960 * time.Millisecond, 1000: 36 * time.Second,
	} {
		if d := backoff(n); d > most || d < most/2 {
			t.Errorf("pause %d is %v", n, d)
		}
	}
}

func TestTheProcessDiesWithItsParent(t *testing.T) {
	t.Parallel()
	tok := softhsmtest.New(t)
	parent := exec.Command(argv(t)[0])
	parent.Env = environ(t, tok, newChild(t, tok), parentEnvVar+"=1")
	parent.Stderr = os.Stderr
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	_, scanErr := fmt.Fscan(out, &pid)
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	if scanErr != nil {
		t.Fatal(scanErr)
	}
	eventually(t, "the HSM process is gone", func() bool { return gone(pid) })
}

// gone reports whether the process has ended. A zombie that nobody reaps counts as gone.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func TestTheProcessOnAUnixSocket(t *testing.T) {
	t.Parallel()
	tok := softhsmtest.New(t)
	c := newChild(t, tok)
	c.Socket = filepath.Join(t.TempDir(), "hsm.sock")
	client := Dial(c.Socket, Timeouts{}, nil)
	t.Cleanup(client.Close)
	id := newID(t)
	for n := range 2 { // the second time after a kill -9, which leaves the socket behind
		process := exec.Command(argv(t)[0])
		process.Env = environ(t, tok, c)
		process.Stderr = os.Stderr
		if err := process.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = process.Process.Kill(); _ = process.Wait() })
		eventually(
			t, "the process answers", func() bool { _, err := client.Describe(t.Context()); return err == nil },
		)
		if n == 0 {
			if err := client.Generate(t.Context(), id, "sa-cmk-key", 1, key.RSA2048, ""); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := client.PublicKey(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if err := process.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = process.Wait()
	}
}
