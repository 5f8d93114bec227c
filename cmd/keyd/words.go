package main

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/width"

	"github.com/keyd-project/keyd/internal/words"
)

// span is a duration in short words: "3 days", "5 min", "12 s".
func span(d time.Duration) string { return shorter.Replace(words.Span(d)) }

var shorter = strings.NewReplacer(" minutes", " min", " seconds", " s", " second", " s")

// when describes t relative to now in words: "in 3 days", "2 hours ago", "never".
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

// clean replaces what could move a terminal's cursor: some of the text comes from outside, such as a vault's tags.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// oneLine is clean for a table's cell or a log's line.
func oneLine(s string) string {
	return clean(strings.ReplaceAll(s, "\n", " "))
}

// brief is how long a step took: "300 ms", "1.2 s", or longer times as elapsed formats them.
func brief(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return elapsed(d)
}

// elapsed is a running time: "0.3 s", "1.2 s", "3 min 05 s", "2 h 03 min".
func elapsed(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Truncate(100*time.Millisecond).Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
}

// columns is how many columns of a terminal a text takes.
func columns(s string) int {
	n := 0
	for _, r := range s {
		n += runeColumns(r)
	}
	return n
}

// runeColumns is 2 for a wide rune (Unicode Standard Annex 11), and 0 for one that combines with the rune before it.
func runeColumns(r rune) int {
	if unicode.In(r, unicode.Mn, unicode.Me) {
		return 0
	}
	if k := width.LookupRune(r).Kind(); k == width.EastAsianWide || k == width.EastAsianFullwidth {
		return 2
	}
	return 1
}

// cut shortens a text to at most that many columns, with a mark at its end.
func cut(s string, most int) string {
	if columns(s) <= most {
		return s
	}
	taken := 1 // for the mark
	for i, r := range s {
		if taken += runeColumns(r); taken > most {
			return s[:i] + "…"
		}
	}
	return s
}

// wrap breaks a text between words into lines of at most that many columns. It does not break a longer word, such as
// a URL.
func wrap(s string, most int) []string {
	if columns(s) <= most {
		return []string{s}
	}
	var lines []string
	line := ""
	for _, word := range strings.Fields(s) {
		switch {
		case line == "":
			line = word
		case columns(line)+1+columns(word) > most:
			lines, line = append(lines, line), word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}
