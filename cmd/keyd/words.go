package main

import (
	"fmt"
	"strings"
	"time"
	"unicode"
)

// span says a duration in words, rounded down to its largest unit.
func span(d time.Duration) string {
	units := []struct {
		size time.Duration
		name string
	}{
		{365 * 24 * time.Hour, "year"},
		{30 * 24 * time.Hour, "month"},
		{24 * time.Hour, "day"},
		{time.Hour, "hour"},
		{time.Minute, "minute"},
		{time.Second, "second"},
	}
	for _, u := range units {
		if n := int(d / u.size); n > 0 {
			return count(n, u.name)
		}
	}
	return "0 seconds"
}

// count is such as "1 key" or "3 keys".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// when places t against now in words: "in 3 days", "2 hours ago", "never".
func when(now, t time.Time) string {
	switch d := t.Sub(now); {
	case t.IsZero():
		return "never"
	case d >= time.Second:
		return "in " + span(d)
	case d > -time.Second:
		return "now"
	default:
		return span(-d) + " ago"
	}
}

// clean replaces what could move a terminal's cursor: some of what is shown
// comes from outside, such as a vault's tags.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// oneLine is clean, for a cell of a table or a line of a log.
func oneLine(s string) string {
	return clean(strings.ReplaceAll(s, "\n", " "))
}

// brief is an elapsed time such as "1.2 s" or "3 min 05 s".
func brief(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
}
