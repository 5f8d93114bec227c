package main

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// seen is a screen that writes to a string, with a clock that the test moves.
type seen struct {
	*screen
	written strings.Builder
	columns int
	at      time.Time
}

func newSeen(columns int, live bool) *seen {
	began := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	s := &seen{columns: columns, at: began}
	s.screen = &screen{out: &s.written, live: live, colour: live, began: began, said: began,
		width: func() int { return s.columns }, clock: func() time.Time { return s.at }}
	return s
}

func (s *seen) after(d time.Duration) { s.at = s.began.Add(d) }

var (
	colours = regexp.MustCompile("\x1b\\[[0-9;]*m")
	erasing = regexp.MustCompile("(?:\x1b\\[([0-9]+)A)?\r\x1b\\[J")
)

// shown is what a terminal shows of the output. It fails the test if the output erases more or less than the last
// line, wrapped into as many rows as it takes.
func (s *seen) shown(t *testing.T) string {
	t.Helper()
	text, screen := colours.ReplaceAllString(s.written.String(), ""), ""
	for {
		at := erasing.FindStringSubmatchIndex(text)
		if at == nil {
			break
		}
		screen += text[:at[0]]
		up := 0
		if at[2] >= 0 {
			up, _ = strconv.Atoi(text[at[2]:at[3]])
		}
		line := screen[strings.LastIndex(screen, "\n")+1:]
		if rows := (max(1, columns(line)) - 1) / s.columns; rows != up {
			t.Errorf("%q is in %d rows, and the cursor went up by %d", line, rows+1, up)
		}
		screen, text = strings.TrimSuffix(screen, line), text[at[1]:]
	}
	if screen += text; strings.ContainsAny(screen, "\x1b\r") {
		t.Errorf("the terminal got %q", screen)
	}
	return screen
}

// aDemo writes some of a demo's lines.
func aDemo(s *seen) {
	s.title("keyd's demo: a key made in an HSM, brought to two vaults, proven and rotated.")
	s.heading("Generation 1: keyd asks for it, because the key has none")
	s.now("the HSM makes an RSA-3072 key", "SoftHSM takes 1 to 10 s")
	s.after(3 * time.Second)
	s.tick()
	s.step(sentence)
	s.now("the next rotation is due", "in 34 s; Ctrl-C ends the demo, and this is longer than a line may be"+
		strings.Repeat(", wherever it is", 5))
	s.after(5 * time.Second)
	s.tick()
	s.verdict(full().verdict())
}

func TestEveryLineFitsTheTerminal(t *testing.T) {
	for _, width := range []int{40, 80, 120} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			s := newSeen(width, true)
			aDemo(s)
			for line := range strings.SplitSeq(s.shown(t), "\n") {
				if columns(line) >= width {
					t.Errorf("%d columns: %q", columns(line), line)
				}
			}
			// Not even for a moment was there a longer one.
			for _, line := range regexp.MustCompile("\n|\x1b\\[J").Split(colours.ReplaceAllString(s.written.String(),
				""), -1) {
				if columns(strings.TrimRight(line, "\r")) >= width {
					t.Errorf("%d columns: %q", columns(line), line)
				}
			}
		})
	}
}

func TestTheCurrentLineIsOverwritten(t *testing.T) {
	s := newSeen(80, true)
	aDemo(s)
	if got := s.shown(t); strings.Contains(got, "the HSM makes") || strings.Contains(got, "the next rotation") {
		t.Errorf("at the end the terminal shows\n%s", got)
	}
	s.now("clears away", "")
	s.tick()
	if got := s.shown(t); !strings.HasSuffix(got, " clears away") {
		t.Errorf("what happens now is not shown:\n%s", got)
	}
}

func TestATerminalThatBecameNarrowerIsStillCleared(t *testing.T) {
	s := newSeen(80, true)
	s.now("the next rotation is due", "in 34 s; Ctrl-C ends the demo")
	s.tick()
	s.columns = 30
	s.step("done")
	if got := s.shown(t); got != "✓ done\n" {
		t.Errorf("the terminal shows\n%s", got)
	}
}

func TestWithoutATerminalNothingIsOverwrittenColouredOrWrapped(t *testing.T) {
	s := newSeen(0, false)
	aDemo(s)
	got := s.written.String()
	if strings.ContainsAny(got, "\x1b\r") {
		t.Errorf("there are control characters in %q", got)
	}
	want := `
 0:00  ▸ Generation 1: keyd asks for it, because the key has none
 0:03  … the HSM makes an RSA-3072 key (SoftHSM takes 1 to 10 s)
 0:03  ✓ ` + sentence + `
 0:05  … the next rotation is due (in 34 s`
	if !strings.Contains(got, want) {
		t.Errorf("got\n%s\nwithout\n%s", got, want)
	}
	if !strings.Contains(got, full().verdict()+"\n") {
		t.Errorf("the verdict is not one line:\n%s", got)
	}
}

func TestWithoutATerminalOnlyLongWorkHasALine(t *testing.T) {
	s := newSeen(0, false)
	s.now("the HSM makes a key", "1 to 10 s")
	var lines []int
	for ms := 0; ms <= 25_000; ms += 100 {
		s.after(time.Duration(ms) * time.Millisecond)
		before := s.written.Len()
		s.tick()
		if s.written.Len() > before {
			lines = append(lines, ms)
		}
	}
	if got := fmt.Sprint(lines); got != "[1000 11000 21000]" {
		t.Errorf("lines after %v ms", got)
	}
	s.now("keyd proves it", "")
	s.after(25_500 * time.Millisecond)
	s.tick()
	if strings.Contains(s.written.String(), "proves") {
		t.Error("what has only just begun has a line")
	}
}

func TestTheConventionsOfTerminals(t *testing.T) {
	for _, c := range []struct {
		terminal     bool
		env          map[string]string
		live, colour bool
	}{
		{terminal: true, live: true, colour: true},
		{terminal: true, env: map[string]string{"TERM": "dumb"}},
		{terminal: true, env: map[string]string{"NO_COLOR": "1"}, live: true},
		{env: map[string]string{"TERM": "xterm", "CLICOLOR_FORCE": "1"}},
	} {
		live, colour := manners(c.terminal, func(name string) string { return c.env[name] })
		if live != c.live || colour != c.colour {
			t.Errorf("%+v: live %v, colour %v", c, live, colour)
		}
	}
}

func TestWithNoColourOnlyTheLastLineIsOverwritten(t *testing.T) {
	s := newSeen(80, true)
	s.colour = false
	aDemo(s)
	if colours.MatchString(s.written.String()) {
		t.Errorf("there are colours in %q", s.written.String())
	}
}

func TestADemoThatNobodyCanReadEnds(t *testing.T) {
	var ended error
	s := newSeen(80, true)
	r, w := io.Pipe()
	r.Close()
	s.out, s.failed = w, func(err error) { ended = err }
	s.step("done")
	if !errors.Is(ended, io.ErrClosedPipe) {
		t.Errorf("%v", ended)
	}
}
