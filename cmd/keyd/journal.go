package main

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
)

// journalHandler sends each log record to systemd's journal in the journal's native protocol
// (systemd.io/JOURNAL_NATIVE_PROTOCOL): the level as PRIORITY and every attribute as a field of its own. MESSAGE has
// both in words, because a plain `journalctl` shows nothing else.
type journalHandler struct {
	level slog.Level
	group string // the prefix of the attributes that follow, with its dot
	attrs []slog.Attr
	send  func(message string, p journal.Priority, fields map[string]string) error
}

// newJournalHandler sends records of at least this level to this host's journal.
func newJournalHandler(level slog.Level) slog.Handler {
	return &journalHandler{level: level, send: journal.Send}
}

func (h *journalHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

func (h *journalHandler) Handle(_ context.Context, r slog.Record) error {
	attrs := slices.Clone(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		attrs = appendFlat(attrs, h.group, a)
		return true
	})
	fields := make(map[string]string, len(attrs))
	var words strings.Builder
	words.WriteString(r.Message)
	for _, a := range attrs {
		value := a.Value.String()
		fields[fieldName(a.Key)] = value
		words.WriteString(" " + a.Key + "=" + quoted(value))
	}
	return h.send(words.String(), priority(r.Level), fields)
}

func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.attrs = slices.Clone(h.attrs)
	for _, a := range attrs {
		next.attrs = appendFlat(next.attrs, h.group, a)
	}
	return &next
}

func (h *journalHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	next := *h
	next.group += name + "."
	return &next
}

// appendFlat appends a, or the attributes of a group one by one, with the group's name as a prefix.
func appendFlat(to []slog.Attr, group string, a slog.Attr) []slog.Attr {
	a.Value = a.Value.Resolve()
	if a.Value.Kind() != slog.KindGroup {
		if a.Equal(slog.Attr{}) {
			return to
		}
		return append(to, slog.Attr{Key: group + a.Key, Value: a.Value})
	}
	if a.Key != "" {
		group += a.Key + "."
	}
	for _, inner := range a.Value.Group() {
		to = appendFlat(to, group, inner)
	}
	return to
}

// fieldName returns the journal's field for an attribute: upper-case letters, digits and underscores, not beginning
// with an underscore or digit (systemd.journal-fields(7)). A name that has a meaning in the journal itself gets the
// prefix of keyd's own fields.
func fieldName(key string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
	if name == "" || name[0] < 'A' || name[0] > 'Z' || name == "MESSAGE" || name == "PRIORITY" {
		name = "KEYD_" + name
	}
	return name
}

// quoted returns a value as a line of text shows it.
func quoted(value string) string {
	if value == "" ||
		strings.ContainsFunc(
			value,
			func(r rune) bool { return r <= ' ' || r == '"' || r == '=' || !strconv.IsPrint(r) },
		) {
		return strconv.Quote(value)
	}
	return value
}

// priority returns a level as syslog(3) numbers it.
func priority(level slog.Level) journal.Priority {
	switch {
	case level >= slog.LevelError:
		return journal.PriErr
	case level >= slog.LevelWarn:
		return journal.PriWarning
	case level >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}
