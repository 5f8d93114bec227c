package e2e_test

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/keyd-project/keyd/internal/status"
)

// A kernel that finds its file system broken makes it read-only under the open state, which no remount can do. Such a
// file system is writable again after it was unmounted, checked and mounted; TestFaultDiskThatFails covers a state
// that becomes writable by itself.
func TestFaultReadOnlyFileSystemStopsOnlyNewWork(t *testing.T) {
	notInTheSample(t)
	t.Parallel()
	w := newOnDisk(t, onExt4)
	w.start()
	w.waitGeneration(1)
	w.seal()
	w.tool("mount", "-o", "remount,abort", w.path("state"))
	w.suffers("read-only file system")
	w.stop()
	w.tool("umount", w.path("state"))
	w.tool("sh", "-c", "e2fsck -fp "+w.path("state.img")+" || test $? = 1") // 1: it repaired something
	mountExt4(w.world)
	w.start()
	w.waitGeneration(1)
	w.recovers()
}

// onExt4 makes a file system in a file, and mounts it for the state.
func onExt4(w *world) {
	w.t.Helper()
	w.write("state.img", "")
	if err := os.Truncate(w.path("state.img"), 16<<20); err != nil {
		w.t.Fatal(err)
	}
	w.tool("mkfs.ext4", "-q", "-F", w.path("state.img"))
	mountExt4(w)
	if err := os.Chmod(w.path("state"), 0o700); err != nil {
		w.t.Fatal(err)
	}
}

func mountExt4(w *world) {
	w.t.Helper()
	w.tool("mount", "-o", "loop,errors=remount-ro", w.path("state.img"), w.path("state"))
}

// tool runs one of the system's tools.
func (w *world) tool(name string, args ...string) {
	w.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		w.t.Fatalf("%s %v: %v: %s (this test needs e2fsprogs and a loop device)", name, args, err, out)
	}
}

func TestFaultReadOnlyStateIsRefusedAtStartUntilItIsWritable(t *testing.T) {
	t.Parallel()
	w := newOnDisk(t, onTmpfs)
	w.start()
	w.waitGeneration(1)
	w.seal()
	w.must("pause", keyName, "--reason", "the test counts")
	w.stop()
	w.remount(syscall.MS_RDONLY)
	w.endsWith("read-only file system")
	w.remount(0)
	w.start()
	w.wait("the key is held still", func(_ status.Snapshot, k status.Key) bool { return k.Hold != nil })
	w.must("resume", keyName, "--reason", "the disk is back")
	w.recovers()
}

func (w *onDisk) remount(flags uintptr) {
	w.t.Helper()
	if err := syscall.Mount("tmpfs", w.path("state"), "tmpfs", syscall.MS_REMOUNT|flags, ""); err != nil {
		w.t.Fatalf("remount the state: %v", err)
	}
}
