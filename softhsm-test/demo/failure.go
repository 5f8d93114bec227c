package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"
)

const (
	lastWords = 5   // lines of keyd's log that are shown after a failure
	wordy     = 160 // columns of each at most
)

// complain prints why the demo failed and the end of keyd's log, in lines of this many
// columns (0: any number).
func complain(w io.Writer, width int, err error, log string) {
	say := func(text string) { fmt.Fprintln(w, fitted(width, text)) }
	if errors.Is(err, syscall.EPIPE) { // nobody reads any more
		_ = os.Remove(log)
		return
	}
	say("")
	for i, line := range strings.Split("The demo failed: "+err.Error(), "\n") {
		mark := "✗ "
		if i > 0 {
			mark = "  "
		}
		say(mark + clean(line))
	}
	b, readErr := os.ReadFile(log)
	if readErr != nil {
		return // keyd had not started
	}
	say("  keyd's log ends:")
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	for _, l := range lines[max(0, len(lines)-lastWords):] {
		say("    " + cut(logLine(l), wordy))
	}
	say("  The whole log is in " + log)
}

// fitted breaks a text and indents the continuation lines.
func fitted(width int, text string) string {
	if width == 0 {
		return text
	}
	lead := strings.Repeat(" ", 4)
	lines := wrap(text, max(len(lead)+1, width-1-len(lead)))
	return strings.Join(lines, "\n"+lead)
}

// logLine formats a line of keyd's log for people: JSON becomes time, level, message and
// cause.
func logLine(line string) string {
	var record map[string]any
	if json.Unmarshal([]byte(line), &record) != nil {
		return clean(line)
	}
	word := func(key string) string {
		if v, ok := record[key]; ok {
			return fmt.Sprint(v)
		}
		return ""
	}
	parts := []string{word("time"), word("level"), word("msg")}
	if at, err := time.Parse(time.RFC3339Nano, parts[0]); err == nil {
		parts[0] = at.Local().Format(time.TimeOnly)
	}
	for _, key := range []string{"STEP", "VAULT", "generation", "why", "warning", "error", "err"} {
		parts = append(parts, word(key))
	}
	said := parts[:0]
	for _, p := range parts {
		if p != "" {
			said = append(said, clean(p))
		}
	}
	return strings.Join(said, "  ")
}

// keepLog moves keyd's log to a place that outlives the demo, and returns its path; ""
// if there is no log.
func (d *demo) keepLog() string {
	if d.keyd == nil {
		return ""
	}
	log, err := os.ReadFile(d.world.file("keyd.log"))
	if err != nil {
		return ""
	}
	f, err := os.CreateTemp("", "keyd-demo-*.log")
	if err != nil {
		return ""
	}
	_, writeErr := f.Write(log)
	if errors.Join(writeErr, f.Close()) != nil {
		_ = os.Remove(f.Name())
		return ""
	}
	return f.Name()
}
