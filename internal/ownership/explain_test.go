package ownership_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/ownership"
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
	err := ownership.Explain(cause, path)
	want := "open the state: permission denied: " + path + " belongs to nobody, and keyd runs as root; " +
		"to give it back: `sudo chown -R root:root '" + path + "'`"
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
		if got := ownership.Explain(err, mine); !errors.Is(got, err) || err != nil && got.Error() != err.Error() {
			t.Errorf("%v became %v", err, got)
		}
	}
}

func TestAFileOfAnotherUserThanItsDirectoryIsRefused(t *testing.T) {
	path := ofNobody(t)
	err := ownership.Differs(path, filepath.Dir(path))
	if err == nil || !strings.Contains(err.Error(), "belongs to nobody, and its directory to root") ||
		!strings.Contains(err.Error(), "`sudo chown -R root:root '"+path+"'`") {
		t.Errorf("error %v", err)
	}
	if err := ownership.Differs(filepath.Dir(path), filepath.Dir(path)); err != nil {
		t.Errorf("the same owner: %v", err)
	}
}

func TestWhatAnotherUserCannotReadIsNamedBeforeItTries(t *testing.T) {
	rights.ToBecomeAnotherUser(t)
	dir, err := os.MkdirTemp("/tmp", "keyd-owner-") // below a folder that everybody can enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	state, file := filepath.Join(dir, "state"), filepath.Join(dir, "web.yaml")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(state, 0o700), os.Chown(state, nobody, nobody),
		os.WriteFile(file, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		do   func() error
		want string
	}{
		{"root's own file", func() error { return nil },
			"nobody cannot read " + file + ": `sudo chown nobody '" + file + "'`"},
		{"a file for all", func() error { return os.Chmod(file, 0o604) }, ""},
		{"a file of its group",
			func() error { return errors.Join(os.Chmod(file, 0o640), os.Chown(file, 0, nobody)) }, ""},
		{"a file that its group may not read", func() error { return os.Chmod(file, 0o604) }, "nobody cannot read"},
		{"its own file", func() error { return errors.Join(os.Chmod(file, 0o400), os.Chown(file, nobody, 0)) }, ""},
		{"a folder that it cannot enter", func() error { return os.Chmod(dir, 0o700) }, "nobody cannot enter " + dir},
		{"root's state", func() error { return os.Chown(state, 0, 0) }, ""},
	} {
		if err := test.do(); err != nil {
			t.Fatal(err)
		}
		got := ownership.Unreadable(file, state)
		if test.want == "" && got != "" || !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
