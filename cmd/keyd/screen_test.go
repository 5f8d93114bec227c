package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// screen emulates the parts of a terminal that keyd uses, and shows what a person would see. Like tmux, it wraps long
// lines, and wraps them again when the width changes. Text written at the beginning of a line replaces the whole
// line.
type screen struct {
	cols, rows int
	lines      []string // without colours, not wrapped
	row        int      // of the cursor, in rows of the wrapped lines
	rest       string   // of an incomplete control sequence
}

func newScreen(cols, rows int) *screen { return &screen{cols: cols, rows: rows, lines: []string{""}} }

// height is how many rows a line takes.
func (s *screen) height(line string) int { return max(1, (columns(line)+s.cols-1)/s.cols) }

// at is the line of the cursor, which must be in the line's first row.
func (s *screen) at() int {
	row := 0
	for i, line := range s.lines {
		if row == s.row {
			return i
		}
		row += s.height(line)
	}
	if row != s.row {
		panic(fmt.Sprintf("the cursor is in row %d, inside of a line of %q", s.row, s.lines))
	}
	s.lines = append(s.lines, "")
	return len(s.lines) - 1
}

func (s *screen) resize(cols int) {
	line := s.at()
	s.cols, s.row = cols, 0
	for _, before := range s.lines[:line] {
		s.row += s.height(before)
	}
}

var sequence = regexp.MustCompile(`^(?:\x1b\[([0-9;]*)([A-Za-z])|[^\x1b\r\n]+|\r|\n)`)

// Write shows p. It knows SGR (m), EL to the end (K), ED to the end (J) and CUU (A) of ECMA-48, and panics on
// anything else.
func (s *screen) Write(p []byte) (int, error) {
	text := s.rest + string(p)
	fresh := false // the cursor is at a line's beginning
	for text != "" {
		m := sequence.FindStringSubmatch(text)
		if m == nil {
			break
		}
		text = text[len(m[0]):]
		line := s.at()
		switch {
		case m[2] == "m":
		case m[2] == "K":
			if fresh {
				s.lines[line] = ""
			}
		case m[2] == "J":
			s.lines = append(s.lines[:line], "")
		case m[2] == "A":
			n, _ := strconv.Atoi(m[1])
			top := 0 // the cursor cannot reach what has scrolled away
			for _, l := range s.lines {
				top += s.height(l)
			}
			s.row = max(s.row-n, top-s.rows, 0)
		case m[2] != "":
			panic("a sequence that this screen does not know: " + m[0])
		case m[0] == "\r":
			fresh = true
		case m[0] == "\n":
			s.row += s.height(s.lines[line])
			fresh = true
			s.at()
		default:
			if fresh {
				s.lines[line] = ""
			}
			s.lines[line] += m[0]
			fresh = false
		}
	}
	s.rest = text
	return len(p), nil
}

// all returns everything that was shown, including what has scrolled away.
func (s *screen) all() string { return strings.TrimRight(strings.Join(s.lines, "\n"), "\n ") }

// String returns what the screen shows now.
func (s *screen) String() string {
	left := s.rows
	for i := len(s.lines) - 1; i >= 0; i-- {
		if left -= s.height(s.lines[i]); left < 0 {
			return strings.TrimRight(strings.Join(s.lines[i+1:], "\n"), "\n ")
		}
	}
	return s.all()
}
