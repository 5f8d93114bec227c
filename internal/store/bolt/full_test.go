package bolt

import (
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
)

const fullChild = "KEYD_TEST_FULL_DISK"

// A limit on file sizes stands in for a full disk: the kernel refuses to let the file grow. The limit holds for a
// whole process, so the test runs in a process of its own.
func TestAFullDiskChangesNothingAndEnds(t *testing.T) {
	if dir := os.Getenv(fullChild); dir != "" {
		onFullDisk(t, dir)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), fullChild+"="+stateDir(t))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func onFullDisk(t *testing.T, dir string) {
	s := openIn(t, dir)
	rec := save(t, s, load(t, s, "k"), "first")
	info, err := os.Stat(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	limit(t, uint64(info.Size()))
	big := chain.Entry{Event: chain.Event(strings.Repeat("x", int(info.Size())))}
	for range 3 {
		if _, err := s.Save(t.Context(), rec, big); err == nil || key.ClassOf(err) != key.Retry {
			t.Fatalf("got %v (%v), want an error of class retry", err, key.ClassOf(err))
		}
	}
	if s.Healthy() == nil {
		t.Error("the store calls itself healthy on a full disk")
	}
	if got := load(t, s, "k").Revision; got != rec.Revision {
		t.Errorf("revision %d, want %d as before", got, rec.Revision)
	}

	limit(t, math.MaxUint64)
	save(t, s, rec, "second")
	report, err := s.Verify(t.Context())
	if err != nil || !report.Consistent() || report.Entries != 2 {
		t.Errorf("afterwards: %v, %v", report, err)
	}
}

// limit sets the soft limit only, so that it can be lifted again.
func limit(t *testing.T, bytes uint64) {
	t.Helper()
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
		t.Fatal(err)
	}
	l.Cur = min(bytes, l.Max)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
		t.Fatal(err)
	}
}
