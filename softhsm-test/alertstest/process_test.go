//go:build alerts

package alertstest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/keyd-project/keyd/softhsm-test/freeport"
)

// patience is the time limit for a condition on a busy machine.
const patience = 3 * time.Minute

// eventually polls until try succeeds, and fails the test when it does not in time.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waiting until %s: %v", what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// freePorts returns loopback addresses on which nobody listens.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	addresses, err := freeport.Addresses(n)
	if err != nil {
		t.Fatal(err)
	}
	return addresses
}

// process is a program that runs until it is stopped, or dies with the test.
type process struct {
	name  string
	cmd   *exec.Cmd
	log   string
	ended chan struct{}
}

// start runs a program with its output in a log file.
func start(t *testing.T, dir string, env []string, program string, args ...string) *process {
	t.Helper()
	name := filepath.Base(program)
	p := &process{name: name, log: filepath.Join(dir, name+".log"), ended: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.Command(program, args...)
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = append(os.Environ(), env...), log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	begun := make(chan error)
	go func() {
		runtime.LockOSThread() // the death signal is the thread's
		begun <- p.cmd.Start()
		if p.cmd.Process != nil {
			_ = p.cmd.Wait()
		}
		_ = log.Close()
		close(p.ended)
	}()
	if err := <-begun; err != nil {
		t.Fatalf("%s: %v (make test-alerts installs what it needs)", name, err)
	}
	return p
}

// stop ends the process, unless it has ended.
func (p *process) stop(t *testing.T, by os.Signal) {
	t.Helper()
	_ = p.cmd.Process.Signal(by)
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		t.Errorf("%s does not end after %v", p.name, by)
	}
}

// tail is the end of the process's log.
func (p *process) tail() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s:\n%s", p.name, b[max(0, len(b)-4000):])
}
