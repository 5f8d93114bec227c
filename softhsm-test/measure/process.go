package measure

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Process is what a process has used: of the processor since its start, and of memory.
type Process struct {
	Processor       time.Duration
	Memory, Highest int // resident, in KiB: now, and at most so far
	Own             int // of Memory, what is not pages of files, which the kernel can take back
}

// Sides are keyd's two processes.
type Sides struct{ Network, HSM Process }

// Processor is the time of both.
func (s Sides) Processor() time.Duration { return s.Network.Processor + s.HSM.Processor }

// Keyd is what `keyd run` with this id and the HSM side that it started have used, with the HSM sides that have ended.
func Keyd(pid int) (s Sides, err error) {
	child, err := childOf(pid)
	if err != nil {
		return s, err
	}
	if s.Network, err = ProcessOf(pid); err != nil {
		return s, err
	}
	if s.HSM, err = ProcessOf(child); err != nil {
		return s, err
	}
	ended, err := endedChildren(pid)
	s.HSM.Processor += ended
	return s, err
}

// endedChildren is the processor time of the children of a process that have ended, by proc(5).
func endedChildren(pid int) (used time.Duration, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // from the third on
	for _, i := range []int{13, 14} {                                         // cutime, cstime
		n, err := strconv.Atoi(fields[i])
		if err != nil {
			return 0, err
		}
		const tick = 10 * time.Millisecond // USER_HZ is 100 on every machine that Go runs on
		used += time.Duration(n) * tick
	}
	return used, nil
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

// clockOf is the clock of a process's processor time, as clock_getcpuclockid(3) makes it. What proc(5) says of that
// time is too coarse for a process that works little.
func clockOf(pid int) int32 {
	const scheduled = 2 // CPUCLOCK_SCHED, of a whole process
	return int32(^pid)<<3 | scheduled
}

// ProcessOf says what a process has used so far.
func ProcessOf(pid int) (p Process, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return p, err
	}
	var used unix.Timespec
	if err := unix.ClockGettime(clockOf(pid), &used); err != nil {
		return p, fmt.Errorf("read the processor time of process %d: %w", pid, err)
	}
	p.Processor = time.Duration(used.Nano())
	for line := range strings.Lines(string(status)) {
		_, _ = fmt.Sscanf(line, "VmRSS: %d kB", &p.Memory)
		_, _ = fmt.Sscanf(line, "VmHWM: %d kB", &p.Highest)
		_, _ = fmt.Sscanf(line, "RssAnon: %d kB", &p.Own)
	}
	return p, nil
}
