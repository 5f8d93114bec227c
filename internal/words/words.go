// Package words says numbers of things and durations in words, alike on the terminal,
// on the status page and in problems.
package words

import (
	"fmt"
	"time"
)

// Count is such as "1 key" or "3 keys"; the plural of thing is made with s.
func Count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// Span is a duration in the largest unit of which there are at least two, rounded
// down, so that it is never off by more than half: "3 days", "47 hours", "1 second".
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
