// Package e2e_test runs the real binary on a real SoftHSM token, with the real Azure SDK signing in by managed
// identity, against the emulator. Its rule: it asserts what an operator can see from outside (commands, logs, the
// vaults, the token), and it leaves nothing running.
//
// Where a test needs minutes to pass, the test's own process takes a second look with a clock that it moves
// (clocked_test.go); every part but the clock is the same.
package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// built are the programs under test, built once.
var built struct {
	dir    string // every world's directory is in here
	keyd   string // the ordinary build
	mortal string // the build that dies at a chosen kill point
}

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(built.dir) }()
	code = m.Run()
	if left := processesNaming(built.dir); len(left) > 0 {
		fmt.Fprintln(os.Stderr, "e2e: processes were left running:", left)
		return 1
	}
	return code
}

func build() (err error) {
	// Not the test's own directory: the path of a control socket must be short.
	if built.dir, err = os.MkdirTemp("", "keyd-e2e-"); err != nil {
		return err
	}
	built.keyd = filepath.Join(built.dir, "keyd")
	built.mortal = filepath.Join(built.dir, "keyd-killpoints")
	for _, args := range [][]string{
		{"build", "-o", built.keyd},
		{"build", "-tags", "killpoints", "-o", built.mortal},
	} {
		out, err := exec.Command("go", append(args, "github.com/keyd-project/keyd/cmd/keyd")...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// processesNaming lists the processes whose command line contains text, except this one.
func processesNaming(text string) (found []string) {
	for _, pid := range processes() {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || pid == os.Getpid() || !bytes.Contains(line, []byte(text)) {
			continue
		}
		found = append(found, fmt.Sprintf("%d %s", pid, bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
	}
	return found
}

func processes() (pids []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// childOf is the `keyd hsm` process that parent started, 0 if there is none.
func childOf(parent int) int {
	for _, pid := range processes() {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil || !strings.Contains(string(status), fmt.Sprintf("\nPPid:\t%d\n", parent)) {
			continue
		}
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && bytes.Contains(line, []byte("\x00hsm\x00")) {
			return pid
		}
	}
	return 0
}

// patience is the time limit for a condition on a busy machine.
const patience = 90 * time.Second

var errNotInTime = errors.New("not in time")

// poll waits until cond holds or stop says why it never will.
func poll(limit time.Duration, cond func() bool, stop <-chan struct{}) error {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if cond() {
			return nil
		}
		select {
		case <-deadline.C:
			return errNotInTime
		case <-stop:
			if cond() {
				return nil
			}
			return errors.New("the daemon ended")
		case <-tick.C:
		}
	}
}
