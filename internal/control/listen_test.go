package control

import (
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// leaveDead leaves a socket on which nobody listens.
func leaveDead(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestListenReplacesADeadSocketOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyd.sock")
	leaveDead(t, path)
	l, err := Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Listen(path, ""); err == nil || !strings.Contains(err.Error(), "another keyd") {
		t.Errorf("a second daemon got: %v", err)
	}
	// Even without the lock file, a live socket is left alone.
	if err := os.Remove(path + ".lock"); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, ""); err == nil || !strings.Contains(err.Error(), "another keyd") {
		t.Errorf("a second daemon without the lock got: %v", err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("the first daemon's socket is gone: %v", err)
	}
	conn.Close()
}

func TestListenLeavesOtherFilesAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyd.sock")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, ""); err == nil {
		t.Error("Listen took the place of a file")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestListenSetsOwnerAndMode(t *testing.T) {
	mine, err := user.LookupGroupId(strconv.Itoa(os.Getgid())) // only root may give to another
	if err != nil {
		t.Fatal(err)
	}
	for group, want := range map[string]os.FileMode{"": 0o600, mine.Name: 0o660} {
		path := filepath.Join(t.TempDir(), "keyd.sock")
		l, err := Listen(path, group)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		l.Close()
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("group %q: mode %v, %v; want %v", group, info.Mode(), err, want)
		}
	}
}

func TestListenExplainsWhatItCannot(t *testing.T) {
	for path, want := range map[string]string{
		"/" + strings.Repeat("x", 120):          "at most 107",
		filepath.Join(t.TempDir(), "no/k.sock"): "RuntimeDirectory=keyd",
	} {
		if _, err := Listen(path, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if _, err := Listen(filepath.Join(t.TempDir(), "k"), "no-such-group"); err == nil ||
		!strings.Contains(err.Error(), "addgroup") {
		t.Errorf("unknown group: %v", err)
	}
}

func TestOfManyServersStartingAtOnceOneWins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyd.sock")
	leaveDead(t, path)
	var wg sync.WaitGroup
	won := make(chan net.Listener, 20)
	for range cap(won) {
		wg.Go(func() {
			if l, err := Listen(path, ""); err == nil {
				won <- l
			}
		})
	}
	wg.Wait()
	close(won)
	if len(won) != 1 {
		t.Errorf("%d daemons serve one socket", len(won))
	}
	for l := range won {
		l.Close()
	}
}

// A process forks before it executes, and until then the child has its parent's descriptors.
func TestALockIsReleasedEvenWhileAChildHasACopy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyd.sock")
	first, err := Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	held, err := unix.Dup(int(first.(*listener).lock.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(held) }()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
