package hsm

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/keyd-project/keyd/softhsm-test/rights"
)

func TestNothingIsSignedByANoteThatOthersMayWrite(t *testing.T) {
	e := newSigner(t)
	last := signs(t, e, entries(1, 8).after(nil))
	for _, path := range []string{e.heads.accept, e.heads.path} {
		if err := errors.Join(os.WriteFile(path, []byte("{}"), 0o600), os.Chmod(path, 0o622)); err != nil {
			t.Fatal(err)
		}
		_, _, err := e.SignCheckpoint(t.Context(), entries(1, 8).and(2, 2).after(last))
		if err == nil || !strings.Contains(err.Error(), "chmod go-w") {
			t.Errorf("%s: %v", path, err)
		}
		_ = os.Remove(path) // the other one is next
	}
}

// The HSM side's own user may put a link where root has just written the order.
func TestAnOrderGivesAwayNothingBehindALink(t *testing.T) {
	rights.ToBecomeAnotherUser(t)
	const nobody = 65534
	dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
	link := filepath.Join(dir, "accept-head.json")
	if err := errors.Join(os.Chown(dir, nobody, nobody), os.WriteFile(victim, nil, 0o600), os.Symlink(victim, link),
		giveTo(link, dir)); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(victim)
	if err != nil {
		t.Fatal(err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; uid != 0 {
		t.Errorf("the file behind the link belongs to uid %d", uid)
	}
}
