package ownership

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// me owns what a test makes.
var me = reader(os.Geteuid())

// stranger is a reader who is neither root nor the owner of what a test makes.
const stranger = reader(54321)

// place is a folder of its own with a file in it.
func place(t *testing.T) (dir, file string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "etc")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, "keyd.yaml")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, file
}

func check(t *testing.T, r reader, path string) error {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return r.check(f)
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func wantUnsafe(t *testing.T, err error, path, reason string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Path != path || !strings.Contains(e.Reason, reason) || e.Remedy == "" {
		t.Errorf("got %v, want that %s %s", err, path, reason)
	}
}

func TestAFileThatOnlyItsReaderMayChangeIsSafe(t *testing.T) {
	_, file := place(t)
	if err := check(t, me, file); err != nil {
		t.Error(err)
	}
	if err := check(t, me, "/etc/passwd"); err != nil {
		t.Errorf("a file of root's: %v", err)
	}
}

func TestAFileThatGroupOrOthersMayWriteIsNotSafe(t *testing.T) {
	_, file := place(t)
	for _, mode := range []os.FileMode{0o620, 0o602} {
		chmod(t, file, mode)
		wantUnsafe(t, check(t, me, file), file, "is writable by group or others")
	}
}

func TestAFolderOnTheWayThatOthersMayWriteIsNotSafe(t *testing.T) {
	dir, file := place(t)
	sub := filepath.Join(dir, "sub")
	deep := filepath.Join(sub, "keys.yaml")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(deep, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	chmod(t, dir, 0o775)
	for _, path := range []string{file, deep} {
		wantUnsafe(t, check(t, me, path), dir, "so others can exchange what is in it")
	}
	chmod(t, dir, 0o777|os.ModeSticky)
	for _, path := range []string{file, deep} {
		if err := check(t, me, path); err != nil {
			t.Errorf("in a sticky folder, as an entry of the reader's: %v", err)
		}
	}
}

// The reader of these files is somebody to whom their owner is a stranger.
func TestWhatAStrangerOwnsIsNotSafe(t *testing.T) {
	if me == 0 {
		t.Run("a file", func(t *testing.T) {
			_, file := place(t)
			if err := os.Chown(file, int(stranger), -1); err != nil {
				t.Fatal(err)
			}
			wantUnsafe(t, check(t, me, file), file, "belongs to uid 54321")
		})
		t.Run("a folder", func(t *testing.T) {
			dir, file := place(t)
			if err := os.Chown(dir, int(stranger), -1); err != nil {
				t.Fatal(err)
			}
			wantUnsafe(t, check(t, me, file), dir, "belongs to uid 54321, who can exchange what is in it")
			wantUnsafe(t, check(t, me, dir), dir, "belongs to uid 54321")
			if err := check(t, stranger, file); err != nil {
				t.Errorf("to its owner: %v", err)
			}
		})
		t.Run("an entry of a sticky folder", func(t *testing.T) {
			dir, file := place(t)
			if err := os.Chown(dir, int(stranger), -1); err != nil {
				t.Fatal(err)
			}
			chmod(t, filepath.Dir(dir), 0o777|os.ModeSticky)
			wantUnsafe(t, check(t, me, file), dir, "belongs to uid 54321, who can exchange it")
		})
		return
	}
	_, file := place(t)
	wantUnsafe(t, check(t, stranger, file), file, "belongs to")
}

func TestALinkLeadsOnlyThroughSafeFolders(t *testing.T) {
	dir, file := place(t)
	elsewhere, _ := place(t)
	link := filepath.Join(elsewhere, "link")
	relative, err := filepath.Rel(elsewhere, file)
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{file, relative} {
		_ = os.Remove(link)
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		if err := check(t, me, link); err != nil {
			t.Errorf("%s: %v", target, err)
		}
		chmod(t, dir, 0o777)
		wantUnsafe(t, check(t, me, link), dir, "so others can exchange what is in it")
		chmod(t, dir, 0o755)
		chmod(t, elsewhere, 0o777)
		wantUnsafe(t, check(t, me, link), elsewhere, "so others can exchange what is in it")
		chmod(t, elsewhere, 0o755)
	}
}

func TestAFileThatWasExchangedIsNotSafe(t *testing.T) {
	_, file := place(t)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Rename(file, file+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantUnsafe(t, me.check(f), file, "was exchanged")
}

func TestWhatIsNotThereIsJudgedByItsFolder(t *testing.T) {
	dir, _ := place(t)
	if err := CheckPath(filepath.Join(dir, "no", "keyd.db")); err != nil {
		t.Error(err)
	}
	chmod(t, dir, 0o777)
	wantUnsafe(t, CheckPath(filepath.Join(dir, "no", "keyd.db")), dir, "is writable")
}

func TestOnlyASafeFileIsRead(t *testing.T) {
	_, file := place(t)
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := ReadFile(file); err != nil || string(data) != "text" {
		t.Errorf("%q, %v", data, err)
	}
	chmod(t, file, 0o666)
	if _, err := ReadFile(file); err == nil {
		t.Error("it was read")
	}
}

// list is an access control list as Linux keeps it.
func list(entries ...entry) []byte {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

// The group bits of the mode are the mask where there is a list: only what an entry and the mask both allow counts.
func TestOnlyEffectiveRightsOfAListCount(t *testing.T) {
	const r, rw = 4, 6
	for name, c := range map[string]struct {
		list []byte
		who  string
	}{
		"nobody":                  {list(entry{aclGroupObj, r, 0}, entry{aclOther, r, 0}), ""},
		"a reading user":          {list(entry{aclUser, r, 7}, entry{aclMask, rw, 0}), ""},
		"a masked user":           {list(entry{aclUser, rw, 7}, entry{aclMask, r, 0}), ""},
		"a writing user":          {list(entry{aclUser, rw, 54320}, entry{aclMask, rw, 0}), "uid 54320"},
		"a user without a mask":   {list(entry{aclUser, rw, 54320}), "uid 54320"},
		"root":                    {list(entry{aclUser, rw, 0}, entry{aclMask, rw, 0}), ""},
		"the reader":              {list(entry{aclUser, rw, uint32(stranger)}, entry{aclMask, rw, 0}), ""},
		"the owning group":        {list(entry{aclGroupObj, rw, 0}, entry{aclMask, rw, 0}), "its group"},
		"the masked group":        {list(entry{aclGroupObj, rw, 0}, entry{aclMask, r, 0}), ""},
		"another group":           {list(entry{aclGroup, rw, 9}, entry{aclMask, rw, 0}), "group 9"},
		"others, whom none masks": {list(entry{aclMask, r, 0}, entry{aclOther, rw, 0}), "everybody"},
		"another version":         {[]byte{3, 0, 0, 0}, "somebody"},
		"a list cut short":        {list(entry{aclOther, r, 0})[:9], "somebody"},
	} {
		if got := stranger.aclWriter(c.list); !strings.HasPrefix(got, c.who) || (got == "") != (c.who == "") {
			t.Errorf("%s: %q, want %q", name, got, c.who)
		}
	}
}
