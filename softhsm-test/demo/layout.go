package main

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Every rune that the demo writes takes one column.

// narrow is the width below which a terminal has no room for times before each line.
const narrow = 60

// row is one line of the demo, wrapped to fit this many columns (0: not wrapped). Its mark is one column wide.
type row struct {
	lead string // the text before the mark
	mark string
	text []string // its lines; each but the first is indented by indent
}

func newRow(width int, at time.Duration, mark, text string) row {
	r := row{mark: mark, text: []string{text}}
	if width == 0 || width >= narrow {
		r.lead = clock(at) + "  "
	}
	if width > 0 {
		r.text = wrap(text, max(1, width-1-r.indent()))
	}
	return r
}

func (r row) indent() int { return columns(r.lead) + 2 }

// write returns the row with its parts coloured.
func (r row) write(faint, paint func(string) string) string {
	var b strings.Builder
	for i, line := range r.text {
		if i == 0 {
			b.WriteString(faint(r.lead) + paint(r.mark) + " " + line)
		} else {
			b.WriteString("\n" + strings.Repeat(" ", r.indent()) + line)
		}
	}
	return b.String()
}

// clock returns text such as " 0:03" or "61:05".
func clock(d time.Duration) string {
	s := int(d / time.Second)
	return fmt.Sprintf("%2d:%02d", s/60, s%60)
}

func columns(s string) int { return utf8.RuneCountInString(s) }

// cut shortens a text to at most that many columns, with a mark at its end.
func cut(s string, most int) string {
	if columns(s) <= most {
		return s
	}
	return string([]rune(s)[:max(0, most-1)]) + "…"
}

// wrap breaks a text into lines of at most that many columns: between words, and inside words that are longer. It
// keeps the spaces between words, except at a break.
func wrap(s string, most int) (lines []string) {
	runes := []rune(s)
	for len(runes) > most {
		end := most
		for end > 0 && runes[end] != ' ' {
			end--
		}
		if end == 0 {
			end = most
		}
		lines = append(lines, strings.TrimRight(string(runes[:end]), " "))
		runes = []rune(strings.TrimLeft(string(runes[end:]), " "))
	}
	return append(lines, string(runes))
}

// clean makes a text from elsewhere safe for one line.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return '\uFFFD'
		}
		return r
	}, s)
}
