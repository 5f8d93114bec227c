// Package words writes counts and durations in words. The terminal, the status page and problems all use it.
package words

import (
	"fmt"
	"time"
)

// Count returns, for example, "1 key" or "3 keys". It forms the plural of thing with s.
func Count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// Span writes a duration in the largest unit that fits at least twice, rounded down: "3 days", "47 hours", "1
// second". So the error is always below one half.
func Span(d time.Duration) string {
	for _, u := range []struct {
		size time.Duration
		name string
	}{
		{365 * 24 * time.Hour, "years"}, {30 * 24 * time.Hour, "months"}, {24 * time.Hour, "days"},
		{time.Hour, "hours"}, {time.Minute, "minutes"},
	} {
		if n := int(d / u.size); n >= 2 {
			return fmt.Sprintf("%d %s", n, u.name)
		}
	}
	return Count(int(d/time.Second), "second")
}

// Exactly writes a duration without loss: in days where it is whole days, "400 days", otherwise as Go does.
func Exactly(d time.Duration) string {
	const day = 24 * time.Hour
	if d%day == 0 {
		return Count(int(d/day), "day")
	}
	return d.String()
}
