//go:build killpoints

// Package killpoint, in the crash tests' build: the process kills itself at the
// n-th passing of the point named in KEYD_KILL_AT, as "name" or "name:n".
package killpoint

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

var passed atomic.Int64

// At kills the process with SIGKILL when the point is the chosen one.
func At(name string) {
	want, nth, _ := strings.Cut(os.Getenv("KEYD_KILL_AT"), ":")
	if name != want {
		return
	}
	n, err := strconv.Atoi(nth)
	if err != nil {
		n = 1
	}
	if passed.Add(1) == int64(n) {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}
