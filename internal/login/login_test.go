package login

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// asPeer is set in the process that connects to this socket and stays until its input ends.
const asPeer = "KEYD_TEST_LOGIN_SOCKET"

func TestMain(m *testing.M) {
	if socket := os.Getenv(asPeer); socket != "" {
		os.Exit(bePeer(socket))
	}
	os.Exit(m.Run())
}

func bePeer(socket string) int {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return 1
	}
	defer c.Close()
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// connected starts a process that connects. end ends it, while its connection may stay open elsewhere.
func connected(t *testing.T) (pid int, p *Process, end func()) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asPeer+"="+l.Addr().String())
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = func() { in.Close(); _ = cmd.Wait() }
	t.Cleanup(end)
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	p, err = Peer(c.(*net.UnixConn))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return cmd.Process.Pid, p, end
}

func TestTheLoginIsAskedForTheProcessThatConnected(t *testing.T) {
	pid, p, _ := connected(t)
	name, err := of(t.Context(), p, func(_ context.Context, asked uint32) (string, error) {
		if int(asked) != pid {
			t.Errorf("asked for process %d, want %d", asked, pid)
		}
		return "anna", nil
	})
	if name != "anna" || err != nil {
		t.Errorf("%q, %v", name, err)
	}
}

// Another process may get the id while logind looks, and the answer would be about that one.
func TestALoginCountsOnlyIfTheProcessOutlivesTheAnswer(t *testing.T) {
	_, p, end := connected(t)
	name, err := of(t.Context(), p, func(context.Context, uint32) (string, error) {
		end()
		return "bob", nil
	})
	if name != "" || err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("of a process that has ended: %q, %v", name, err)
	}
}

func TestAFailureOfLogindIsNoLogin(t *testing.T) {
	_, p, _ := connected(t)
	none := errors.New("no session")
	if name, err := of(t.Context(), p, func(context.Context, uint32) (string, error) { return "", none }); name != "" ||
		!errors.Is(err, none) {
		t.Errorf("%q, %v", name, err)
	}
}

func TestEveryQuestionToLogindHasADeadline(t *testing.T) {
	_, p, _ := connected(t)
	_, err := of(t.Context(), p, func(ctx context.Context, _ uint32) (string, error) {
		if _, ok := ctx.Deadline(); !ok {
			t.Error("no deadline")
		}
		return "anna", nil
	})
	if err != nil {
		t.Error(err)
	}
}
