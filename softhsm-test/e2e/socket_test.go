package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyd-project/keyd/softhsm-test/rights"
)

// Two users other than the daemon's: a member of the socket's group, and one who is not.
const (
	member   = 65534 // nobody, in its group 65534
	stranger = 1     // daemon, in its group 1
)

func TestAnotherUserReadsAtMostAndStarvesNobody(t *testing.T) {
	t.Parallel()
	rights.ToBecomeAnotherUser(t)
	w := newWorld(t, nil)
	w.openTo(member)
	w.start()
	w.waitGeneration(1)

	for _, args := range [][]string{{"status"}, {"plan"}, {"rotate", "--now", keyName, "--reason", "theft"}} {
		if a := w.as(stranger, args...); a.code != 4 {
			t.Errorf("a stranger's keyd %s: exit %d: %s%s", args[0], a.code, a.stdout, a.stderr)
		}
	}
	for _, args := range [][]string{{"status"}, {"plan"}, {"audit"}} {
		if a := w.as(member, args...); a.code != 0 || !strings.Contains(a.stdout, keyName) {
			t.Errorf("a member's keyd %s: exit %d: %s%s", args[0], a.code, a.stdout, a.stderr)
		}
	}
	for _, args := range [][]string{
		{"rotate", "--now", keyName, "--reason", "theft"}, {"pause", keyName, "--reason", "theft"},
		{"resume", keyName, "--reason", "theft"}, {"reload"},
	} {
		if a := w.as(member, args...); a.code != 4 || !strings.Contains(a.stderr, "may not") {
			t.Errorf("a member's keyd %s: exit %d: %s%s", args[0], a.code, a.stdout, a.stderr)
		}
	}
	w.wantVersions(1)
	if k := w.key(); k.Hold != nil || len(k.Generations) != 1 {
		t.Errorf("another user changed the key: %+v", k)
	}

	w.crowd()
	w.must("status")
	if a := w.as(member, "status"); a.code != 0 {
		t.Errorf("the member's own keyd status beside its thousand connections: exit %d: %s", a.code, a.stderr)
	}
	if w.metric("keyd_control_connections_dropped_total") <= 0 {
		t.Error("no connection was dropped for another one: the looks waited until some had timed out")
	}
	w.wantContains(w.must("rotate", "--now", keyName, "--reason", "drill", "--timeout", "80s"), "finish")
	w.wantVersions(2)
	w.stop()
}

// openTo lets the group reach the world's socket.
func (w *world) openTo(gid int) {
	w.t.Helper()
	text, err := os.ReadFile(w.path("keyd.yaml"))
	if err != nil {
		w.t.Fatal(err)
	}
	const field = "control: {"
	w.write("keyd.yaml", strings.Replace(string(text), field, fmt.Sprintf("%sgroup: %q, ", field, fmt.Sprint(gid)), 1))
	for _, dir := range []string{built.dir, w.dir} {
		if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // others must pass through to the socket
			w.t.Fatal(err)
		}
	}
}

// as runs one of keyd's commands as another user, whose group has the same number.
func (w *world) as(id uint32, args ...string) answer {
	w.t.Helper()
	return w.asMember(id, id, args...)
}

// asMember runs one of keyd's commands as another user, in a group.
func (w *world) asMember(uid, gid uint32, args ...string) answer {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), built.keyd, append(args, "--socket", w.path("keyd.sock"))...)
	var out, errs bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", &out, &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	return answer{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// crowd leaves a thousand of the member's connections open until the test ends: idle ones, ones in the middle of a
// request, and ones whose request is far too large.
func (w *world) crowd() {
	w.t.Helper()
	var conns []net.Conn
	w.t.Cleanup(func() {
		for _, c := range conns {
			_ = c.Close()
		}
	})
	large := strings.Repeat("x", 1<<20)
	for i := range 1000 {
		c, err := w.dialAs(member)
		if err != nil {
			w.t.Fatalf("connection %d: %v", i, err)
		}
		conns = append(conns, c)
		request := ""
		switch i % 20 {
		case 1:
			request = "GET /v1/snapshot HTTP/1.1\r\nHost: ke"
		case 2:
			request = "GET /v1/snapshot HTTP/1.1\r\nHost: keyd\r\nX: " + large
		case 3:
			request = fmt.Sprintf("POST /v1/rotate HTTP/1.1\r\nHost: keyd\r\nContent-Length: %d\r\n\r\n%s",
				len(large), large)
		}
		// The daemon may hang up before it has read everything.
		_ = c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		_, _ = io.WriteString(c, request)
	}
}

// dialAs connects to the control socket as another user: the kernel remembers
// who the connecting thread was, and only that thread changes.
func (w *world) dialAs(id int) (net.Conn, error) {
	type dialled struct {
		net.Conn
		err error
	}
	ch := make(chan dialled)
	go func() {
		// Never unlocked: the thread ends with this goroutine.
		runtime.LockOSThread()
		for _, call := range []uintptr{syscall.SYS_SETRESGID, syscall.SYS_SETRESUID} {
			if _, _, errno := syscall.RawSyscall(call, uintptr(id), uintptr(id), uintptr(id)); errno != 0 {
				ch <- dialled{err: errno}
				return
			}
		}
		c, err := (&net.Dialer{}).DialContext(context.WithoutCancel(w.t.Context()), "unix", w.path("keyd.sock"))
		ch <- dialled{c, err}
	}()
	d := <-ch
	return d.Conn, d.err
}
