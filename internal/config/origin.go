package config

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// The origins of a setting.
const (
	FromFile     = "file"     // its own field
	FromDefaults = "defaults" // the section defaults
	FromBuiltIn  = "built in" // keyd's own default
)

// Setting is one value of the configuration, and where it came from.
type Setting struct {
	Field string `json:"field"` // such as keys.sa-cmk-key.schedule
	Value string `json:"value"` // as written; "": none
	From  string `json:"from"`  // one of the From constants
	File  string `json:"file,omitempty"`
	Line  int    `json:"line,omitempty"`

	column int
}

// Origin says in words where the value came from.
func (s Setting) Origin() string {
	switch s.From {
	case FromFile:
		return fmt.Sprintf("%s:%d", s.File, s.Line)
	case FromDefaults:
		return fmt.Sprintf("defaults, %s:%d", s.File, s.Line)
	}
	return s.From
}

// Settings lists every value, those of a section together; those of keys only after LoadToShow.
func (c *Config) Settings() []Setting { return c.settings }

// Mistake is a Problem of the value of a field, which a later look at the host found. It points to the field, or to
// its section if the field is absent.
func (c *Config) Mistake(field, remedy, format string, args ...any) Problem {
	p := Problem{File: c.Files[0], Message: fmt.Sprintf(format, args...), Remedy: remedy}
	section := field[:strings.LastIndex(field, ".")+1]
	for _, is := range []func(string) bool{
		func(name string) bool { return name == field },
		func(name string) bool { return section != "" && strings.HasPrefix(name, section) },
	} {
		i := slices.IndexFunc(c.settings, func(s Setting) bool { return s.From != FromBuiltIn && is(s.Field) })
		if i >= 0 {
			p.File, p.Line, p.Column = c.settings[i].File, c.settings[i].Line, c.settings[i].column
			break
		}
	}
	return p
}

// note keeps what a field holds for Settings.
func (s *section) note(name, value string) {
	if s.quiet || !s.rep.keySettings && strings.HasPrefix(s.path, "keys.") {
		return
	}
	set := Setting{Field: s.own(name), Value: value, From: FromBuiltIn}
	if f, ok := s.byName[name]; ok {
		where := f.where()
		set.From, set.File, set.Line, set.column = FromFile, where.File, where.Line, where.Column
		if f.inherited {
			set.From = FromDefaults
		}
	}
	s.rep.settings = append(s.rep.settings, set)
}

// asWritten is the value of a node on one line.
func asWritten(n ast.Node) string {
	if text, ok := scalarText(n); ok {
		return text
	}
	switch n := n.(type) {
	case *ast.SequenceNode:
		texts := make([]string, len(n.Values))
		for i, v := range n.Values {
			texts[i] = asWritten(v)
		}
		return "[" + strings.Join(texts, ", ") + "]"
	case ast.MapNode:
		var texts []string
		for it := n.MapRange(); it.Next(); {
			texts = append(texts, asWritten(it.Key())+": "+asWritten(it.Value()))
		}
		return "{" + strings.Join(texts, ", ") + "}"
	}
	return ""
}

// builtIn is a default in the form in which an operator would write it.
func builtIn(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case uint: // the number of a mechanism
		if v == 0 {
			return ""
		}
	case time.Duration:
		return showDuration(v)
	case slog.Level:
		return strings.ToLower(v.String())
	}
	return fmt.Sprint(v)
}
