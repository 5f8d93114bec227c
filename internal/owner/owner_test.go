package owner_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/owner"
	"github.com/keyd-project/keyd/softhsm-test/rights"
)

const nobody = 65534

// ofNobody makes a file that belongs to another user.
func ofNobody(t *testing.T) string {
	t.Helper()
	rights.ToBecomeAnotherUser(t)
	path := filepath.Join(t.TempDir(), "keyd.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestARefusedPermissionNamesTheOwnerAndTheCommand(t *testing.T) {
	path := ofNobody(t)
	cause := fmt.Errorf("open the state: %w", fs.ErrPermission)
	err := owner.Explain(cause, path)
	want := "open the state: permission denied: " + path + " belongs to nobody, and keyd runs as root; " +
		"to give it back: `sudo chown -R root:root " + path + "`"
	if err.Error() != want || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func TestOtherErrorsAndOwnFilesStayAsTheyAre(t *testing.T) {
	mine := filepath.Join(t.TempDir(), "mine")
	if err := os.WriteFile(mine, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{nil, fs.ErrNotExist, fs.ErrPermission} {
		if got := owner.Explain(err, mine); !errors.Is(got, err) || err != nil && got.Error() != err.Error() {
			t.Errorf("%v became %v", err, got)
		}
	}
}

func TestAFileOfAnotherUserThanItsDirectoryIsRefused(t *testing.T) {
	path := ofNobody(t)
	err := owner.Differs(path, filepath.Dir(path))
	if err == nil || !strings.Contains(err.Error(), "belongs to nobody, and its directory to root") ||
		!strings.Contains(err.Error(), "`sudo chown -R root:root "+path+"`") {
		t.Errorf("error %v", err)
	}
	if err := owner.Differs(filepath.Dir(path), filepath.Dir(path)); err != nil {
		t.Errorf("the same owner: %v", err)
	}
}
