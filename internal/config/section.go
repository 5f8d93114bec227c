package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-yaml/ast"
)

// section is a mapping that is being read. Each of its fields is read at most once.
type section struct {
	rep    *report
	path   string   // such as "keys.sa-cmk-key"; "" at the top
	at     position // of its name
	fields []field
	byName map[string]field
	quiet  bool // its values are not settings of their own
}

// name is the full name of one of the section's fields, as it is where the value stands.
func (s *section) name(field string) string {
	if s.byName[field].inherited {
		return "defaults." + field
	}
	return s.own(field)
}

// readPairs reads the pairs of a mapping node and reports repeated names. It returns
// false if the node is not a mapping.
func (s *section) readPairs(file string, n ast.Node) bool {
	m, ok := n.(ast.MapNode)
	if !ok {
		return false
	}
	for it := m.MapRange(); it.Next(); {
		pair := it.KeyValue()
		where := at(file, pair.Key, s.at)
		name, ok := scalarText(pair.Key)
		if !ok || name == "" || !isPrintable(name) {
			s.rep.add(where, "write a plain name", "%s: a field's name must be text", s.label())
			continue
		}
		f := field{name: name, at: where, node: pair.Value}
		if first, twice := s.byName[name]; twice {
			s.rep.add(where, "keep one of them", "%s is already at %s", s.name(name), first.at)
			continue
		}
		s.byName[name] = f
		s.fields = append(s.fields, f)
	}
	return true
}

func (s *section) label() string {
	if s.path == "" {
		return "the file"
	}
	return s.path
}

// only reports every unknown field.
func (s *section) only(known ...string) {
	for _, f := range s.fields {
		if !slices.Contains(known, f.name) {
			s.rep.add(f.at, suggest(f.name, known), "unknown field %s", s.name(f.name))
		}
	}
}

// sub reads a field's value as a mapping. It returns an empty section, not nil, if the
// field is absent or wrong.
func (s *section) sub(name string) *section {
	sub := &section{rep: s.rep, path: s.name(name), at: s.at, byName: map[string]field{}}
	f, ok := s.byName[name]
	if !ok {
		return sub
	}
	sub.at = f.at
	if f.node == nil || f.node.Type() == ast.NullType {
		return sub
	}
	if !sub.readPairs(f.at.File, f.node) {
		s.rep.add(f.where(), "write its fields as name: value on lines of their own", "%s is not a mapping", sub.path)
	}
	return sub
}

func (s *section) has(name string) bool {
	_, ok := s.byName[name]
	return ok
}

// whereOf returns the place of a field's value, or of the section if the field is
// absent.
func (s *section) whereOf(name string) position {
	if f, ok := s.byName[name]; ok {
		return f.where()
	}
	return s.at
}

// require reports an absent field.
func (s *section) require(name, remedy string) {
	if !s.has(name) {
		s.rep.add(s.at, remedy, "%s is missing", s.name(name))
	}
}

// read parses a scalar field. It returns the default if the field is absent or wrong.
func read[T any](s *section, name string, fallback T, parse func(string) (T, error)) T {
	f, ok := s.byName[name]
	if !ok {
		s.note(name, builtIn(fallback))
		return fallback
	}
	s.note(name, asWritten(f.node))
	v, ok := readScalar(s.rep, s.name(name), f.where(), f.node, parse)
	if !ok {
		return fallback
	}
	return v
}

func readScalar[T any](rep *report, name string, where position, n ast.Node,
	parse func(string) (T, error)) (v T, ok bool) {
	text, isScalar := scalarText(n)
	if !isScalar {
		message := "%s is not a single value"
		if n == nil || n.Type() == ast.NullType {
			message = "%s has no value"
		}
		rep.add(where, "write one value after the colon, or remove the field", message, name)
		return v, false
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) }) {
		rep.add(where, "remove them", "%s has invisible characters", name)
		return v, false
	}
	v, err := parse(text)
	if err != nil {
		rep.addFault(where, name, err)
		return v, false
	}
	return v, true
}

// addFault reports a mistake that a value's parser found.
func (r *report) addFault(where position, name string, err error) {
	var f fault
	if !errors.As(err, &f) {
		f = fault{message: err.Error()}
	}
	r.add(where, f.remedy, "%s: %s", name, f.message)
}

// item is one parsed entry of a list.
type item[T any] struct {
	value T
	at    position
}

// list parses a field that is a list of scalars. It omits wrong entries.
func list[T any](s *section, name string, parse func(string) (T, error)) []item[T] {
	f, ok := s.byName[name]
	if !ok {
		s.note(name, "")
		return nil
	}
	s.note(name, asWritten(f.node))
	seq, ok := f.node.(*ast.SequenceNode)
	if !ok {
		s.rep.add(f.where(), "write a list, such as [a, b]", "%s is not a list", s.name(name))
		return nil
	}
	var items []item[T]
	for _, n := range seq.Values {
		where := at(f.at.File, n, f.where())
		if v, ok := readScalar(s.rep, s.name(name), where, n, parse); ok {
			items = append(items, item[T]{v, where})
		}
	}
	return items
}

func parseText(s string) (string, error) {
	if s == "" {
		return "", faultf("write a value, or remove the field", "the value is empty")
	}
	if !isPrintable(s) {
		return "", faultf("write it on one line, with spaces for tabs", "the value has line breaks or tabs")
	}
	return s, nil
}

// isPrintable reports whether s fits in one line of a message.
func isPrintable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func parseBool(s string) (bool, error) {
	switch s {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, faultf("write true or false", "%q is neither true nor false", s)
}

// intIn parses a decimal number in [low, high].
func intIn(low, high int) func(string) (int, error) {
	return func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err != nil || n < low || n > high {
			return 0, faultf(fmt.Sprintf("write a number from %d to %d", low, high), "%q is not such a number", s)
		}
		return n, nil
	}
}

// oneOf parses one of a few words.
func oneOf(words ...string) func(string) (string, error) {
	return func(s string) (string, error) {
		if !slices.Contains(words, s) {
			return "", fault{fmt.Sprintf("unknown value %q", s), suggest(s, words)}
		}
		return s, nil
	}
}

// durationIn parses a duration in [low, high].
func durationIn(low, high time.Duration) func(string) (time.Duration, error) {
	return func(s string) (time.Duration, error) {
		d, err := parseDuration(s)
		if err != nil {
			return 0, err
		}
		if d < low || d > high {
			return 0, faultf(fmt.Sprintf("write a duration from %s to %s", showDuration(low), showDuration(high)),
				"%s is out of range", s)
		}
		return d, nil
	}
}
