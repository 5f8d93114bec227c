package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"github.com/keyd-project/keyd/softhsm-test/fasttime"
)

const (
	program = "github.com/keyd-project/keyd/cmd/keyd"
	// workVariable names the directory of the process that runs in namespaces of its own.
	workVariable = "KEYD_HOSTS_WORK"
)

// buildKeyd builds keyd so that it follows the fast clock, and dies at a chosen kill point.
func buildKeyd(file string) error {
	scratch, err := os.MkdirTemp("", "keyd-hosts-")
	if err != nil {
		return err
	}
	flags := strings.TrimSpace(os.Getenv("GOFLAGS") + " -tags=killpoints")
	if err = os.Setenv("GOFLAGS", flags); err == nil {
		err = fasttime.Build(scratch, file, program)
	}
	return errors.Join(err, os.RemoveAll(scratch))
}

// outside runs this program again in namespaces of its own. That process is the first one of its process namespace: all
// others end with it, and so do the network namespaces.
func outside(ctx context.Context, o options) int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "hosts: network namespaces are for root: run it with sudo")
		return 2
	}
	if _, err := os.Stat(o.keyd); err != nil {
		fmt.Fprintln(os.Stderr, "hosts: there is no keyd at -keyd: build it with -build:", err)
		return 2
	}
	// Not the usual place of temporary files: the path of a control socket must be short.
	work, err := os.MkdirTemp("/tmp", "keyd-hosts-")
	if err == nil {
		defer os.RemoveAll(work)
		err = os.Chmod(work, 0o755) // PostgreSQL runs as a user of its own
	}
	if err == nil {
		err = isolated(ctx, work)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "hosts:", err)
	}
	if err != nil {
		return 1
	}
	return 0
}

func isolated(ctx context.Context, work string) error {
	runtime.LockOSThread() // the other process ends when the thread that started it does
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), workVariable+"="+work, "TMPDIR="+work)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL,
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run in namespaces of its own: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		_ = cmd.Process.Signal(syscall.SIGTERM)
		return <-ended
	}
}

// prepare makes the new namespaces usable.
func prepare(work string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts to this process: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := syscall.Mount("tmpfs", "/run", "tmpfs", 0, "mode=0755"); err != nil { // where ip keeps its namespaces
		return fmt.Errorf("mount a /run of its own: %w", err)
	}
	if err := os.Chdir(work); err != nil {
		return err
	}
	return ip("link", "set", "lo", "up")
}
