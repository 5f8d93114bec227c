package control

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/softhsm-test/rights"
)

func TestRules(t *testing.T) {
	authorise, err := Rules{Self: 900, Readers: "root", Operators: []uint32{1000}}.Authoriser()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name      string
		uid       uint32
		gids      []uint32
		read, act bool
	}{
		{"root", 0, nil, true, true},
		{"the daemon's own uid", 900, []uint32{900}, true, true},
		{"an operator", 1000, []uint32{1000}, true, true},
		{"a member of the group", 1001, []uint32{1001, 0}, true, false},
		{"anyone else", 1002, []uint32{1002}, false, false},
	} {
		if read, act := authorise(test.uid, test.gids); read != test.read || act != test.act {
			t.Errorf("%s: read %v, act %v", test.name, read, act)
		}
	}
	if _, err := (Rules{Readers: "no-such-group"}).Authoriser(); err == nil {
		t.Error("an unknown group was taken")
	}
}

func TestWithoutAGroupNobodyElseReads(t *testing.T) {
	authorise, err := Rules{Self: 900}.Authoriser()
	if err != nil {
		t.Fatal(err)
	}
	if read, act := authorise(1000, []uint32{0, 1000}); read || act {
		t.Errorf("read %v, act %v", read, act)
	}
}

// asPeer is set in the process that TestAnotherUser starts: the socket to talk to.
const asPeer = "KEYD_TEST_PEER_SOCKET"

func TestMain(m *testing.M) {
	if socket := os.Getenv(asPeer); socket != "" {
		os.Exit(bePeer(socket))
	}
	os.Exit(m.Run())
}

// bePeer prints how reading and acting went.
func bePeer(socket string) int {
	c := Dial(socket)
	ctx := context.Background()
	_, readErr := c.Snapshot(ctx, status.Selection{})
	_, actErr := c.Rotate(ctx, RotateOptions{Keys: []string{"a"}})
	io.WriteString(os.Stdout, outcome(readErr)+" "+outcome(actErr))
	return 0
}

func outcome(err error) string {
	var refused *RefusedError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &refused):
		return "refused"
	default:
		return err.Error()
	}
}

func TestAnotherUser(t *testing.T) {
	const nobody = 65534
	rights.ToBecomeAnotherUser(t)
	for _, test := range []struct {
		name  string
		rules Rules
		mode  os.FileMode
		gid   uint32
		want  string
	}{
		{"is refused", Rules{Self: 900, Readers: "root"}, 0o666, nobody, "refused refused"},
		{"cannot open the socket at all", Rules{Self: 900, Readers: "root"}, 0o660, nobody, "refused refused"},
		{"reads by the group it connected with", Rules{Self: 900, Readers: "daemon"}, 0o666, 1, "ok refused"},
		{"acts as an operator", Rules{Self: 900, Operators: []uint32{nobody}}, 0o666, nobody, "ok ok"},
		{"acts as the daemon's own uid", Rules{Self: nobody}, 0o666, nobody, "ok ok"},
	} {
		t.Run(test.name, func(t *testing.T) {
			authorise, err := test.rules.Authoriser()
			if err != nil {
				t.Fatal(err)
			}
			f := newFake()
			socket := serve(t, f, authorise)
			if err := os.Chmod(socket, test.mode); err != nil {
				t.Fatal(err)
			}
			if got := runAs(t, nobody, test.gid, socket); got != test.want {
				t.Errorf("read and act: %s; want %s", got, test.want)
			}
			for _, did := range f.notes() {
				if !strings.HasPrefix(did, "uid 65534 (nobody), ") {
					t.Errorf("noted: %s", did)
				}
			}
		})
	}
}

// runAs runs this test binary as another user, from a place that user can see.
func runAs(t *testing.T, uid, gid uint32, socket string) string {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(openDir(t), "peer")
	if err := os.WriteFile(binary, self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary)
	cmd.Env = append(os.Environ(), asPeer+"="+socket, "GORACE=atexit_sleep_ms=0")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}
