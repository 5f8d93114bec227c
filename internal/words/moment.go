package words

import (
	"strings"
	"time"
)

// Moment is a time in UTC, in RFC 3339: "2026-11-25T12:00:00Z".
func Moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// OneLine puts a text into one line, with single spaces.
func OneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
