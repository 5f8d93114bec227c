//go:build killpoints

// Package killpoint, in the crash tests' build: a process kills itself where the
// file that KEYD_KILL_FILE names tells it to, and removes the file first, so that
// it dies once. The file holds the name of a point, or "name:n" for its n-th
// passing since the file was seen; a test may write it at any time.
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
	order  string // what the file held at the last passing
	passed int    // of that order's point
)

// At kills the process with SIGKILL when the point is the chosen one.
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
	want, nth, _ := strings.Cut(order, ":")
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
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}
