package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

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
	parts = append(parts, e.Step)
	if e.Vault != "" {
		parts = append(parts, e.Vault)
	}
	switch e.Phase {
	case status.Begin:
		parts = append(parts, "…")
	case status.Wait:
		parts = append(parts, "waits")
	default:
		parts = append(parts, string(e.Phase))
	}
	if e.Elapsed > 0 {
		parts = append(parts, "in "+brief(e.Elapsed))
	}
	if e.Version != "" {
		parts = append(parts, "version "+e.Version)
	}
	for _, more := range []string{e.Detail, e.Error} {
		if more != "" {
			parts = append(parts, more)
		}
	}
	return oneLine(strings.Join(parts, "  "))
}

// live shows one line per key on a terminal, with the time since the request.
type live struct {
	out   io.Writer
	style style
	width int // columns
	now   func() time.Time
	begun time.Time

	mu    sync.Mutex
	order []string
	last  map[string]status.Event
	ended map[string]time.Time
	drawn bool
}

func newLive(out io.Writer, s style, width int, accepted []control.Accepted) *live {
	l := &live{out: out, style: s, width: width, now: time.Now, begun: time.Now(),
		last: map[string]status.Event{}, ended: map[string]time.Time{}}
	for _, acc := range accepted {
		text := "asked for"
		if acc.Joined {
			text = "joined a pending request"
		}
		l.order = append(l.order, acc.Key)
		l.last[acc.Key] = status.Event{Key: acc.Key, Step: "request", Phase: status.Done, Detail: text}
	}
	return l
}

// run draws until stop is called.
func (l *live) run() (show func(status.Event), stop func()) {
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(redrawEvery)
		defer tick.Stop()
		for {
			l.draw()
			select {
			case <-tick.C:
			case <-quit:
				l.draw()
				return
			}
		}
	}()
	return l.saw, func() { close(quit); <-ended }
}

func (l *live) saw(e status.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last[e.Key] = e
	if e.Step == "hold" || e.Step == "finish" && e.Phase == status.Done {
		l.ended[e.Key] = l.now()
	}
}

// draw goes back up over what it drew before. Lines are cut to the terminal's
// width: a wrapped one would break the count.
func (l *live) draw() {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	if l.drawn {
		fmt.Fprintf(&b, "\x1b[%dA", len(l.order))
	}
	l.drawn = true
	for _, name := range l.order {
		b.WriteString("\r\x1b[2K" + l.line(name) + "\n")
	}
	fmt.Fprint(l.out, b.String())
}

func (l *live) line(name string) string {
	e := l.last[name]
	until, over := l.ended[name]
	if !over {
		until = l.now()
	}
	text := []rune(fmt.Sprintf("%s  %s  %s", clean(name), brief(until.Sub(l.begun)), eventText(e)))
	if len(text) >= l.width {
		text = append(text[:max(0, l.width-2)], '…')
	}
	switch {
	case e.Step == "hold" || e.Phase == status.Failed:
		return l.style.bad(string(text))
	case over:
		return l.style.good(string(text))
	}
	return string(text)
}
