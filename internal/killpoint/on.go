//go:build killpoints

// Package killpoint, in the crash tests' build: a process kills itself at the point that the file KEYD_KILL_FILE
// chooses. It removes the file first, so that it dies once. The file holds the name of a point, or "name:n" for the
// n-th time that the point is passed since the file appeared; a test may write it at any time. With "stop " before it
// the process does not die there: it stands still until somebody continues it.
package killpoint

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

var (
	mu     sync.Mutex
	order  string // what the file held the last time
	passed int    // how often that point was passed
)

// At kills the process with SIGKILL, or stops it, when the point is the chosen one.
func At(name string) {
	file := os.Getenv("KEYD_KILL_FILE")
	if file == "" {
		return
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return
	}
	mu.Lock()
	defer mu.Unlock()
	if string(b) != order {
		order, passed = string(b), 0
	}
	chosen, stop := strings.CutPrefix(order, "stop ")
	want, nth, _ := strings.Cut(chosen, ":")
	if name != want {
		return
	}
	n, err := strconv.Atoi(nth)
	if err != nil {
		n = 1
	}
	if passed++; passed != n || os.Remove(file) != nil {
		return
	}
	if stop {
		order = "" // the same point may be chosen again
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}
