package measure

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Process is what a process has used: of the processor since its start, and of memory.
type Process struct {
	Processor       time.Duration
	Memory, Highest int // resident, in KiB: now, and at most so far
}

// Sides are keyd's two processes.
type Sides struct{ Network, HSM Process }

// Processor is the time of both.
func (s Sides) Processor() time.Duration { return s.Network.Processor + s.HSM.Processor }

// Keyd is what `keyd run` with this id and the HSM side that it started have used.
func Keyd(pid int) (s Sides, err error) {
	child, err := childOf(pid)
	if err != nil {
		return s, err
	}
	if s.Network, err = ProcessOf(pid); err != nil {
		return s, err
	}
	s.HSM, err = ProcessOf(child)
	return s, err
}

// childOf is the one child of a process. The thread that started it is its parent.
func childOf(pid int) (int, error) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return 0, err
	}
	var children []string
	for _, path := range lists {
		if list, err := os.ReadFile(path); err == nil { // or the thread has ended
			children = append(children, strings.Fields(string(list))...)
		}
	}
	if len(children) != 1 {
		return 0, fmt.Errorf("process %d has %d children, not one HSM side", pid, len(children))
	}
	return strconv.Atoi(children[0])
}

// ProcessOf reads proc(5).
func ProcessOf(pid int) (p Process, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	stat, statErr := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err := errors.Join(err, statErr); err != nil {
		return p, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // from the third on
	for _, i := range []int{11, 12} {                                         // utime, stime
		n, err := strconv.Atoi(fields[i])
		if err != nil {
			return p, err
		}
		const tick = 10 * time.Millisecond // USER_HZ is 100 on every machine that Go runs on
		p.Processor += time.Duration(n) * tick
	}
	for line := range strings.Lines(string(status)) {
		_, _ = fmt.Sscanf(line, "VmRSS: %d kB", &p.Memory)
		_, _ = fmt.Sscanf(line, "VmHWM: %d kB", &p.Highest)
	}
	return p, nil
}
