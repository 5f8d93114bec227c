package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Problem is one mistake in the configuration.
type Problem struct {
	File         string
	Line, Column int // from 1; 0 when the whole file is meant
	Message      string
	Remedy       string // what to do or write instead
}

// String is "file:line:col: message; remedy".
func (p Problem) String() string {
	s := position{p.File, p.Line, p.Column}.String() + ": " + p.Message
	if p.Remedy != "" {
		s += "; " + p.Remedy
	}
	return s
}

// Problems is every mistake found, ordered by file, line and column.
type Problems []Problem

// Error is one line for each problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// position is a place in a file. Line and Column count from 1.
type position struct {
	File         string
	Line, Column int
}

func (p position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// fault is a mistake that a parser of one value found. The caller knows where.
type fault struct{ message, remedy string }

func (f fault) Error() string { return f.message + "; " + f.remedy }

func faultf(remedy, format string, args ...any) error {
	return fault{fmt.Sprintf(format, args...), remedy}
}

// report collects problems. order is that of the files.
type report struct {
	problems Problems
	order    []string
	gaps     map[string]time.Duration // longest gaps by schedule as written; 0: none
	settings []Setting
	// consumers has where each resource was first named, by its id in lower case.
	consumers map[string]named
	// keySettings: also keep the settings of keys.
	keySettings bool
}

func (r *report) add(at position, remedy, format string, args ...any) {
	r.problems = append(r.problems, Problem{
		File: at.File, Line: at.Line, Column: at.Column,
		Message: fmt.Sprintf(format, args...), Remedy: remedy,
	})
}

func (r *report) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.problems, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(slices.Index(r.order, a.File), slices.Index(r.order, b.File)),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column))
	})
	// A value of the defaults is read for each key; a mistake in it is one.
	return slices.Compact(r.problems)
}
