package term

import (
	"time"

	"golang.org/x/sys/unix"
)

// Instant is a moment by two clocks. Somebody may set the wall clock, and it alone means the same on every host.
// CLOCK_BOOTTIME means something on this host only; nobody can set it, and it goes on while the host is suspended.
type Instant struct {
	Wall time.Time
	Boot time.Duration // since the host started
}

// Now reads both clocks of this host.
func Now() Instant { return Instant{Wall: time.Now().Round(0), Boot: Boottime()} }

// Boottime is how long ago the host started, including the time that it was suspended (clock_gettime(2)).
func Boottime() time.Duration {
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &at); err != nil {
		panic("CLOCK_BOOTTIME cannot be read: " + err.Error()) // Linux has it since 2.6.39
	}
	return time.Duration(at.Nano())
}

// Add is the moment that comes d later.
func (i Instant) Add(d time.Duration) Instant { return Instant{i.Wall.Add(d), i.Boot + d} }

// Since is how long ago an earlier moment was: by the clock that says the longer time.
func (i Instant) Since(earlier Instant) time.Duration {
	return max(i.Wall.Sub(earlier.Wall), i.Boot-earlier.Boot)
}
