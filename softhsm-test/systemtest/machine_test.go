//go:build system

package systemtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is the time limit for something without a deadline of its own; the machine may be slow.
const patience = 90 * time.Second

// machine is systemd in a container over an overlay of this machine's root.
type machine struct {
	root   string // of the container, as seen from here
	leader int    // its pid 1, as seen from here
	nspawn *exec.Cmd
	ended  chan struct{} // closed when nspawn has ended
}

// bootMachine boots the machine, and ends it with the test.
func bootMachine(t *testing.T) *machine {
	t.Helper()
	dir := t.TempDir()
	m := &machine{root: filepath.Join(dir, "m", "root")}
	mustRun(t, "mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", mkdir(t, dir, "m"))
	upper, work := mkdir(t, dir, "m/upper"), mkdir(t, dir, "m/work")
	mustRun(t, "mount", "-t", "overlay", "-o", "lowerdir=/,upperdir="+upper+",workdir="+work, "overlay",
		mkdir(t, dir, "m/root"))
	t.Cleanup(func() {
		mustRun(t, "umount", "-R", m.root)
		mustRun(t, "umount", filepath.Join(dir, "m"))
	})
	m.prepare(t)

	t.Cleanup(func() {
		if m.nspawn != nil {
			m.stop(t, "poweroff")
		}
	})
	m.boot(t)
	return m
}

// boot starts systemd in the container, and waits until everything that starts by itself has started.
func (m *machine) boot(t *testing.T) {
	t.Helper()
	console, err := os.Create(filepath.Join(filepath.Dir(m.root), "console"))
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	cmd := exec.Command("systemd-nspawn", "-q", "-b", "--register=no", "--keep-unit", "--private-network",
		"--link-journal=no", "--console=pipe", "-D", m.root)
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error, 1), make(chan struct{})
	go func() { // on a thread that lives as long as the container: see Pdeathsig
		runtime.LockOSThread()
		started <- cmd.Start()
		_ = cmd.Wait()
		close(ended)
	}()
	if err := <-started; err != nil {
		t.Fatalf("systemd-nspawn: %v (install: apt-get install systemd-container)", err)
	}
	m.nspawn, m.ended = cmd, ended
	eventually(t, "systemd runs in the container", func() error {
		select {
		case <-ended:
			text, _ := os.ReadFile(console.Name())
			t.Fatalf("systemd-nspawn ended: %s", text)
		default:
		}
		return m.findLeader()
	})
	eventually(t, "the container has booted", func() error {
		_, err := m.try("systemctl", "is-active", "default.target")
		return err
	})
}

// stop ends the container by poweroff or reboot; both end nspawn.
func (m *machine) stop(t *testing.T, how string) {
	t.Helper()
	_, _ = m.try("systemctl", how) // its connection may end first
	select {
	case <-m.ended:
	case <-time.After(patience):
		t.Errorf("the container does not end by %s", how)
		_ = m.nspawn.Process.Kill()
		<-m.ended
	}
	m.leader = 0
}

// reboot boots the container again, with all services that are enabled.
func (m *machine) reboot(t *testing.T) {
	t.Helper()
	m.run(t, "systemctl", "set-default", "multi-user.target")
	m.stop(t, "reboot")
	m.boot(t)
}

// prepare removes from the overlay what would start or disturb services.
func (m *machine) prepare(t *testing.T) {
	t.Helper()
	for _, pattern := range []string{"etc/systemd/system/*.wants", "etc/systemd/system/default.target",
		"usr/sbin/policy-rc.d", "etc/keyd", "var/lib/keyd*", "etc/systemd/system/keyd*"} {
		found, err := filepath.Glob(filepath.Join(m.root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	// The first boot starts only the basics.
	err := os.Symlink("/usr/lib/systemd/system/basic.target", m.at("/etc/systemd/system/default.target"))
	if err != nil {
		t.Fatal(err)
	}
	// An empty one would count as a first boot, which enables every unit.
	m.write(t, "/etc/machine-id", "0123456789abcdef0123456789abcdef\n", 0o444)
}

// findLeader finds the container's pid 1 among nspawn's children.
func (m *machine) findLeader() error {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", m.nspawn.Process.Pid))
	if err != nil {
		return err
	}
	for _, field := range strings.Fields(string(children)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return err
		}
		if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); strings.TrimSpace(string(comm)) == "systemd" {
			m.leader = pid
			return nil
		}
	}
	return errors.New("nspawn has no child that is systemd")
}

// try runs a command inside the container and returns its output. It refuses if the command would run on this
// machine.
func (m *machine) try(args ...string) (string, error) {
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return "", err
	}
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", m.leader))
	if err != nil {
		return "", fmt.Errorf("the container has ended: %w", err)
	}
	if m.leader <= 1 || own == theirs {
		return "", fmt.Errorf("process %d is not a container's: %v is not run", m.leader, args)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", strconv.Itoa(m.leader), "-a", "--"}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "TERM=dumb", "SYSTEMD_PAGER=cat",
		"DEBIAN_FRONTEND=noninteractive"}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(out.String()))
	}
	return strings.TrimSpace(out.String()), err
}

// run is try for a command that must succeed.
func (m *machine) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := m.try(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (m *machine) shell(t *testing.T, script string) string {
	t.Helper()
	return m.run(t, "bash", "-euo", "pipefail", "-c", script)
}

// at is a path of the container, as seen from here.
func (m *machine) at(path string) string { return filepath.Join(m.root, path) }

// write writes a file of the container, whole or not at all. After the boot it may only write from outside into the
// container's own folders: what systemd mounts over them is not visible from here.
func (m *machine) write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.at(path)), 0o755); err != nil {
		t.Fatal(err)
	}
	next := m.at(path) + ".new"
	err := errors.Join(os.WriteFile(next, []byte(text), mode), os.Chmod(next, mode), os.Rename(next, m.at(path)))
	if err != nil {
		t.Fatal(err)
	}
}

func (m *machine) copyIn(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	m.write(t, to, string(data), mode)
}

func mkdir(t *testing.T, parts ...string) string {
	t.Helper()
	path := filepath.Join(parts...)
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func mustRun(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// eventually polls until check has no error.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waiting until %s: %v", what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
