package control

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/login"
	"github.com/keyd-project/keyd/internal/status"
)

// serveWithLogins serves f to everyone, and finds logins with find.
func serveWithLogins(t *testing.T, f *fake, may Authoriser, find LoginFinder) *Client {
	t.Helper()
	path := filepath.Join(openDir(t), "keyd.sock")
	l, err := Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(f, may, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	server.FindLogins(find)
	run(t, server, l)
	return Dial(path)
}

func TestAnActionNamesTheUIDAndTheLoginBehindIt(t *testing.T) {
	me, _ := peer{uid: uint32(os.Getuid())}.identify()
	for _, test := range []struct {
		name, login, want string
		err               error
	}{
		{"known", "anna", me.user() + ", login anna pauses a: migration", nil},
		{"unknown", "", me.user() + ", login unknown pauses a: migration", errors.New("no session")},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFake()
			c := serveWithLogins(t, f, everyone, func(context.Context, *login.Process) (string, error) {
				return test.login, test.err
			})
			if err := c.Pause(t.Context(), "a", "migration"); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{test.want}, f.notes()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Each question costs the system bus something, so nobody who may not act can cause one.
func TestOnlyAnActionThatIsAllowedAsksForALogin(t *testing.T) {
	asked := 0
	reader := func(uint32, []uint32) (read, act bool) { return true, false }
	c := serveWithLogins(t, newFake(), reader, func(context.Context, *login.Process) (string, error) {
		asked++
		return "anna", nil
	})
	if _, err := c.Snapshot(t.Context(), status.Selection{}); err != nil {
		t.Error(err)
	}
	if err := c.Pause(t.Context(), "a", "migration"); err == nil {
		t.Error("a reader paused a key")
	}
	if asked != 0 {
		t.Errorf("asked for %d logins", asked)
	}
}

// Otherwise keyd would run out of descriptors.
func TestAConnectionThatIsClosedUnpinsItsProcess(t *testing.T) {
	inner, err := net.Listen("unix", filepath.Join(openDir(t), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	client, err := net.Dial("unix", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	accepted, err := limited{inner, newConns(newMetrics(prometheus.NewRegistry()))}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	pinned := accepted.(*conn).peer.process
	if pinned == nil {
		t.Fatal(accepted.(*conn).peer.unpinned)
	}
	if err := accepted.Close(); err != nil {
		t.Fatal(err)
	}
	if err := pinned.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the process was still pinned: %v", err)
	}
}
