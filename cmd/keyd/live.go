package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/status"
)

const redrawEvery = 200 * time.Millisecond

// eventLine is one event as a line of a log.
func eventLine(e status.Event) string {
	return e.At.Local().Format(time.TimeOnly) + "  " + clean(e.Key) + "  " + eventText(e)
}

// eventText is one event in words, without its key and time.
func eventText(e status.Event) string {
	var parts []string
	if e.Generation > 0 {
		parts = append(parts, fmt.Sprintf("generation %d", e.Generation))
	}
	switch {
	case e.Step == "hold":
		parts = append(parts, "on hold", e.Vault)
	case e.Step == "finish" && e.Phase == status.Done:
		parts = append(parts, "finished")
	default:
		parts = append(parts, e.Step, e.Vault, stepOutcome(e))
	}
	if e.Version != "" {
		parts = append(parts, "version "+e.Version)
	}
	parts = append(parts, detail(e), strings.TrimPrefix(e.Error, "key "+e.Key+": "))
	return oneLine(strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), "  "))
}

// stepOutcome says how far a step is.
func stepOutcome(e status.Event) string {
	switch {
	case e.Phase == status.Begin:
		return "…"
	case e.Phase == status.Wait:
		return "waits"
	case e.Elapsed > 0:
		return string(e.Phase) + " in " + brief(e.Elapsed.Duration())
	}
	return string(e.Phase)
}

// detail is why a step is done, unless that is the usual reason, or its error says more.
func detail(e status.Event) string {
	routine := []string{"reserve", "promote", "generate", "pin", "create-kek", "use-kek", "import", "prove"}
	if e.Error != "" || e.Phase != status.Wait && slices.Contains(routine, e.Step) {
		return ""
	}
	return e.Detail
}

// live shows one line per key on a terminal, with the time since the request. It is a control.Viewer.
type live struct {
	out    io.Writer
	screen func() (s style, rows int) // called for each drawing, because terminals are resized
	now    func() time.Time
	begun  time.Time

	mu    sync.Mutex
	keys  []*progress
	away  bool
	drawn []int // columns of each line that is on the screen
}

// progress is what is known of one key.
type progress struct {
	key    string
	text   string
	begun  bool // a step has begun
	failed bool // the last step failed
	ended  time.Time
}

// rank orders keys if there are not enough rows for all: first those that a person must see.
func (p *progress) rank() int {
	switch {
	case !p.ended.IsZero():
		return 3
	case p.failed:
		return 0
	case p.begun:
		return 1
	}
	return 2
}

func newLive(out *os.File, accepted []control.Accepted) *live {
	l := &live{out: out, now: time.Now, begun: time.Now()}
	l.screen = func() (style, int) {
		_, rows, err := term.GetSize(int(out.Fd()))
		if err != nil {
			rows = 24
		}
		return styleOf(out), rows
	}
	l.follow(accepted)
	return l
}

func (l *live) follow(accepted []control.Accepted) {
	for _, acc := range accepted {
		text := "requested"
		if acc.Joined {
			text = "joined a pending request"
		}
		l.keys = append(l.keys, &progress{key: acc.Key, text: text})
	}
}

// run draws until somebody calls stop.
func (l *live) run() (stop func()) {
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(redrawEvery)
		defer tick.Stop()
		for {
			l.draw(false)
			select {
			case <-tick.C:
			case <-quit:
				l.draw(true)
				return
			}
		}
	}()
	return func() { close(quit); <-ended }
}

// Saw notes an event.
func (l *live) Saw(e status.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.keys {
		if p.key == e.Key {
			p.begun, p.text, p.failed = true, eventText(e), e.Step == "hold" || e.Phase == status.Failed
			if e.Step == "hold" || e.Step == "finish" && e.Phase == status.Done {
				p.ended = l.now()
			}
		}
	}
}

// Away notes whether the daemon is away.
func (l *live) Away(away bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away = away
}

// draw moves back up over what it drew before. The last drawing has all keys; earlier ones have as many as the
// terminal has rows.
func (l *live) draw(last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, rows := l.screen()
	width := max(2, s.width)
	lines := l.lines(s, width-1)
	if !last {
		lines = l.fold(lines, rows-1)
	}
	if l.away && !last {
		lines = append(lines[:min(len(lines), max(0, rows-2))], cell{awayText(true), s.warn})
	}
	var b strings.Builder
	if up := rowsOf(l.drawn, width); up > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", up)
	}
	l.drawn = l.drawn[:0]
	for _, line := range lines {
		text := cut(line.text, width-1) // a wrapped line would take two rows
		l.drawn = append(l.drawn, columns(text))
		b.WriteString("\r" + line.painted(text) + "\x1b[K\n")
	}
	b.WriteString("\r\x1b[J") // what is left of a longer drawing, or of a ^C
	_, _ = io.WriteString(l.out, b.String())
}

// rowsOf is how many rows the lines take now. If the screen became narrower since they were drawn, the terminal wraps
// them.
func rowsOf(lines []int, width int) (rows int) {
	for _, n := range lines {
		rows += max(1, (n+width-1)/width)
	}
	return rows
}

// lines returns a line for each key, in aligned columns.
func (l *live) lines(s style, width int) []cell {
	name := 0
	for _, p := range l.keys {
		name = max(name, columns(p.key))
	}
	name = min(name, max(12, width/3))
	lines := make([]cell, len(l.keys))
	for i, p := range l.keys {
		mark, until, paint := " ", l.now(), func(text string) string { return text }
		switch {
		case p.failed:
			mark, paint = "✗", s.bad
		case !p.ended.IsZero():
			mark, paint = "✓", s.good
		}
		if !p.ended.IsZero() {
			until = p.ended
		}
		key := cut(clean(p.key), name)
		lines[i] = cell{
			fmt.Sprintf("%s %s%*s  %10s  %s", mark, key, name-columns(key), "", elapsed(until.Sub(l.begun)), p.text),
			paint,
		}
	}
	return lines
}

// fold shortens the lines to that many rows: keys that failed come first, then those under way, waiting, and ended.
// The last row counts the keys that are not shown.
func (l *live) fold(lines []cell, rows int) []cell {
	if len(lines) <= rows {
		return lines
	}
	var ranked [4][]cell
	for i, p := range l.keys {
		ranked[p.rank()] = append(ranked[p.rank()], lines[i])
	}
	shown := slices.Concat(ranked[:]...)[:max(0, rows-1)]
	return append(
		shown,
		cell{text: fmt.Sprintf("  and %d more; of all %d keys: %d failed, %d under way, %d waiting, %d ended",
			len(lines)-len(shown), len(lines), len(ranked[0]), len(ranked[1]), len(ranked[2]), len(ranked[3]))},
	)
}
