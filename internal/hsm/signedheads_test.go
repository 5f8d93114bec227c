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

// The HSM side's own user may put a link under the name of the order at any time.
func TestAnOrderGivesAwayNothingBehindALink(t *testing.T) {
	rights.ToBecomeAnotherUser(t)
	const nobody = 65534
	for name, link := range map[string]func(old, new string) error{"symbolic": os.Symlink, "hard": os.Link} {
		base := t.TempDir()
		dir, victim := filepath.Join(base, "state"), filepath.Join(base, "victim")
		order := filepath.Join(dir, "accept-head.json")
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, nobody, nobody), os.WriteFile(victim, nil, 0o600),
			writeDurableAs(order, []byte("{}"), func(f *os.File) error {
				return errors.Join(link(victim, order), giveTo(f, dir))
			})); err != nil {
			t.Fatal(err)
		}
		if owner := uidOf(t, victim); owner != 0 {
			t.Errorf("the file behind a %s link belongs to uid %d", name, owner)
		}
		if owner := uidOf(t, order); owner != nobody {
			t.Errorf("beside a %s link the order belongs to uid %d", name, owner)
		}
	}
}

func uidOf(t *testing.T, path string) uint32 {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Uid
}
