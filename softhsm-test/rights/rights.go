// Package rights is where a test asks for a right that not every process has, such as to mount a file system. Its
// rule: it tries the right, and only the kernel's refusal skips a test. In a plain container that is a skip with its
// reason, which make test names at its end. In CI (CI=true) it is a failure, so that no test is left out unseen.
package rights

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// List is the variable that names a file: each skipped test adds a line with its name and the reason. Go's test cache
// depends on it: a new file name means a new run.
const List = "KEYD_TEST_SKIPPED"

// ToMount asks for the right to mount a file system, which root has on a machine of its own and usually not in a
// container.
func ToMount(tb testing.TB) {
	tb.Helper()
	dir := tb.TempDir()
	need(tb, "CAP_SYS_ADMIN, to mount a file system", func() error {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			return err
		}
		return syscall.Unmount(dir, 0)
	})
}

// ToBecomeAnotherUser asks for the right to run a program as another user, which
// root has.
func ToBecomeAnotherUser(tb testing.TB) {
	tb.Helper()
	const nobody = 65534
	need(tb, "CAP_SETUID and CAP_SETGID, to become another user", func() error {
		cmd := exec.Command("true")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		return cmd.Run()
	})
}

func need(tb testing.TB, right string, try func() error) {
	tb.Helper()
	err := try()
	switch {
	case err == nil:
		return
	case !errors.Is(err, fs.ErrPermission):
		tb.Fatalf("try for %s: %v", right, err)
	case os.Getenv("CI") == "true":
		tb.Fatalf("needs %s: %v (in CI nothing is skipped: run it as root, not in a plain container)", right, err)
	}
	reason := fmt.Sprintf("needs %s: %v", right, err)
	if err := list(tb.Name() + ": " + reason); err != nil {
		tb.Fatalf("list that the test is skipped, which %s: %v", reason, err)
	}
	tb.Skip(reason)
}

// list adds a line to the file that List names, if it names one.
func list(line string) error {
	name := os.Getenv(List)
	if name == "" {
		return nil
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	return errors.Join(err, f.Close())
}
