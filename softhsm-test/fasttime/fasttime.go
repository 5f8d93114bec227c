// Package fasttime builds an unchanged program for a clock that runs faster. Its rule: nothing in the program changes
// for it, so that a minute of the test does what otherwise takes an hour.
//
// The program is built with another `time` package: Go's own, in which the present, timers, tickers and so the
// deadlines of contexts follow the fast clock. (What the runtime itself keeps stays real: time.Sleep, and the
// deadlines of a connection.) Everything above it, keyd's rooms, Azure's SDK and its caches, TLS, the limiter, gets
// the time from there. The ordinary build has no trace of it.
package fasttime

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Clock is a clock that runs Factor times as fast as the machine's, and agreed with it at Since.
type Clock struct {
	Since  time.Time
	Factor int
}

// Now is the fast clock's time.
func (c Clock) Now() time.Time {
	return c.Since.Add(time.Duration(c.Factor) * time.Since(c.Since))
}

// Real is how long a span of the fast clock takes.
func (c Clock) Real(d time.Duration) time.Duration { return d / time.Duration(c.Factor) }

// Later returns a clock of the same pace that is ahead of this one by d.
func (c Clock) Later(d time.Duration) Clock {
	// For each moment that it began earlier, it has gained all but that moment.
	return Clock{Since: c.Since.Add(-d / time.Duration(c.Factor-1)), Factor: c.Factor}
}

// Environ is the setting that makes a program built by Build follow this clock.
func (c Clock) Environ() string { return fmt.Sprintf("FASTTIME=%d@%d", c.Factor, c.Since.UnixNano()) }

//go:embed clock.go.txt
var clockSource string

// change is one replacement in a file of Go's `time` package.
type change struct {
	file, old, new string
	times          int
}

var changes = []change{
	{"time.go", "sec, nsec, mono := runtimeNow()\n", "sec, nsec, mono := fastNow()\n", 1},
	{"time.go", "runtimeNano()-startNano", "fastNano()-startNano", 2},
	{"sleep.go", "runtimeNano() + int64(d)", "runtimeNano() + realSpan(d)", 1},
	{"tick.go", "when(d), int64(d)", "when(d), realSpan(d)", 2},
}

// Build builds the package pkg into the file out. scratch is a directory for the
// changed sources.
func Build(scratch, out, pkg string) error {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env GOROOT: %w", err)
	}
	overlay, err := writeOverlay(scratch, filepath.Join(strings.TrimSpace(string(root)), "src", "time"))
	if err != nil {
		return err
	}
	if said, err := exec.Command("go", "build", "-overlay", overlay, "-o", out, pkg).CombinedOutput(); err != nil {
		return fmt.Errorf("go build -overlay %s %s: %w: %s", overlay, pkg, err, said)
	}
	return nil
}

// writeOverlay writes the changed sources, and what `go build -overlay` reads of
// them.
func writeOverlay(scratch, source string) (path string, err error) {
	changed := map[string]string{"fast.go": clockSource}
	for _, c := range changes {
		if changed[c.file] == "" {
			b, err := os.ReadFile(filepath.Join(source, c.file))
			if err != nil {
				return "", fmt.Errorf("read Go's time package: %w", err)
			}
			changed[c.file] = string(b)
		}
		if n := strings.Count(changed[c.file], c.old); n != c.times {
			return "", fmt.Errorf("%s of this Go has %q %d times, not %d: fit fasttime to it",
				c.file, c.old, n, c.times)
		}
		changed[c.file] = strings.ReplaceAll(changed[c.file], c.old, c.new)
	}
	replace := map[string]string{}
	for name, text := range changed {
		path := filepath.Join(scratch, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return "", fmt.Errorf("write the changed time package: %w", err)
		}
		replace[filepath.Join(source, name)] = path
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path = filepath.Join(scratch, "overlay.json")
	return path, os.WriteFile(path, text, 0o600)
}

// ComeFirst raises the priority of this process and its children, if it may (as root): the fast clock does not wait, so
// a delay of a second counts as a minute.
func ComeFirst() {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, thread := range threads {
		if id, err := strconv.Atoi(thread.Name()); err == nil {
			_ = syscall.Setpriority(syscall.PRIO_PROCESS, id, -15)
		}
	}
}
