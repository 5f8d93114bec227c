package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// How the demo talks to its user: as cmd/keyd does. On a terminal, lines fit its width, and the last one shows what
// happens now and is overwritten; elsewhere each line is whole, and whatever takes long has a line of its own.
// Colours are for terminals that are not dumb, unless NO_COLOR is set.

const (
	redrawEvery = 100 * time.Millisecond
	// settles is how long something must last to get a line where lines cannot be overwritten.
	settles = time.Second
	// silence is the longest time without a line there.
	silence = 10 * time.Second
)

var spinner = []string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}

type screen struct {
	out    io.Writer
	live   bool // written lines can be overwritten
	colour bool
	width  func() int // columns; 0: lines are not wrapped
	clock  func() time.Time
	failed context.CancelCauseFunc // called when nothing can be written any more

	mu             sync.Mutex
	began          time.Time
	doing, detail  string    // what happens now
	since          time.Time // of doing
	printed        bool      // the current work has a line
	said           time.Time // when a line was last written
	drawn          int       // columns of the line that will be overwritten; 0: there is none
	lent           bool      // somebody else writes
	quit, finished chan struct{}
}

func newScreen(out *os.File, failed context.CancelCauseFunc) *screen {
	s := &screen{out: out, width: func() int { return widthOf(out) }, clock: time.Now, failed: failed}
	s.began = s.clock()
	s.said = s.began
	s.live, s.colour = manners(term.IsTerminal(int(out.Fd())), os.Getenv)
	return s
}

func manners(terminal bool, env func(string) string) (live, colour bool) {
	live = terminal && env("TERM") != "dumb"
	return live, live && env("NO_COLOR") == ""
}

// widthOf is how many columns a terminal has; 0: it is not a terminal.
func widthOf(f *os.File) int {
	if !term.IsTerminal(int(f.Fd())) {
		return 0
	}
	if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
		return width
	}
	return 80 // it does not say
}

// run keeps the line about the current work up to date, until somebody calls stop.
func (s *screen) run() {
	s.quit, s.finished = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(s.finished)
		tick := time.NewTicker(redrawEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s.tick()
			case <-s.quit:
				return
			}
		}
	}()
}

func (s *screen) stop() {
	close(s.quit)
	<-s.finished
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(s.erased())
}

// title writes a line before everything else.
func (s *screen) title(text string) { s.put(text, s.bold) }

// blank writes an empty line.
func (s *screen) blank() { s.put("", same) }

// step writes what was done.
func (s *screen) step(text string) { s.line("✓", text, s.good) }

// note writes something that belongs to the line before it.
func (s *screen) note(text string) { s.line(" ", text, same) }

// heading begins a group of lines.
func (s *screen) heading(text string) {
	s.blank()
	s.line("▸", text, s.bold)
}

// verdict writes the result of it all.
func (s *screen) verdict(text string) {
	s.blank()
	s.line("✓", text, s.good)
}

// now sets what happens until the next call, with details that may change meanwhile.
func (s *screen) now(text, detail string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.doing != text {
		s.doing, s.since, s.printed = text, s.clock(), false
	}
	s.detail = detail
}

// lend lets f write below the lines so far.
func (s *screen) lend(f func() error) error {
	s.mu.Lock()
	s.write(s.erased())
	s.lent = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.lent, s.said = false, s.clock()
	}()
	return f()
}

// line writes a row that stays.
func (s *screen) line(mark, text string, paint func(string) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := newRow(s.width(), s.clock().Sub(s.began), mark, text)
	s.write(s.erased() + r.write(s.faint, paint) + "\n")
	s.said = s.clock()
}

// put writes text that stays, without a time.
func (s *screen) put(text string, paint func(string) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := []string{text}
	if width := s.width(); width > 0 {
		lines = wrap(text, max(1, width-1))
	}
	out := s.erased()
	for _, l := range lines {
		out += paint(l) + "\n"
	}
	s.write(out)
}

// tick shows what happens now: always where the line can be overwritten, elsewhere only when it takes long.
func (s *screen) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lent || s.doing == "" {
		return
	}
	now, text := s.clock(), s.doing
	if s.detail != "" {
		text += " (" + s.detail + ")"
	}
	if !s.live {
		if !s.printed && now.Sub(s.since) >= settles || now.Sub(s.said) >= silence {
			s.printed, s.said = true, now
			s.write(newRow(s.width(), now.Sub(s.began), "…", text).write(same, same) + "\n")
		}
		return
	}
	width := s.width()
	frame := spinner[int(now.Sub(s.began)/redrawEvery)%len(spinner)]
	r := newRow(width, now.Sub(s.began), frame, clean(text))
	r.text = []string{cut(clean(text), max(1, width-1-r.indent()))}
	out := s.erased() + r.write(s.faint, s.bold)
	s.drawn = r.indent() + columns(r.text[0])
	s.write(out)
}

// erased moves back over the line to overwrite, and the ^C that was typed. If the terminal became narrower since, it
// has wrapped the line.
func (s *screen) erased() string {
	if !s.live {
		return ""
	}
	out := "\r\x1b[J"
	if up := max(0, s.drawn-1) / max(1, s.width()); up > 0 {
		out = fmt.Sprintf("\x1b[%dA%s", up, out)
	}
	s.drawn = 0
	return out
}

func (s *screen) write(text string) {
	if text == "" {
		return
	}
	if _, err := io.WriteString(s.out, text); err != nil {
		s.failed(fmt.Errorf("show the demo: %w", err))
	}
}

func (s *screen) paint(code, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func same(text string) string              { return text }
func (s *screen) good(text string) string  { return s.paint("32", text) }
func (s *screen) bold(text string) string  { return s.paint("1", text) }
func (s *screen) faint(text string) string { return s.paint("2", text) }
