package config

import (
	"bytes"
	"regexp"
	"strings"
	"unicode/utf8"
)

// unquoted finds a schedule without quotes whose first character means something else to YAML: * an alias, @ nothing.
var unquoted = regexp.MustCompile(`^([^#"']*\bschedule:[ \t]+)([*@].*)$`)

// slips reports what people often get wrong in YAML, and what the parser's own words do not explain. It returns false
// if it reported something.
func slips(where position, line []byte, rep *report) bool {
	text := string(line)
	words := strings.TrimLeft(text, " \t")
	if indent := text[:len(text)-len(words)]; strings.Contains(indent, "\t") && words != "" && words[0] != '#' {
		where.Column = strings.Index(indent, "\t") + 1
		rep.add(where, "write spaces in its place", "a tab in the indentation, which YAML does not allow")
		return false
	}
	if m := unquoted.FindStringSubmatch(text); m != nil {
		where.Column = utf8.RuneCountInString(m[1]) + 1
		rep.add(where, `quote it: schedule: "`+scheduleAlone(m[2])+`"`,
			"the schedule begins with a character that YAML reads as its own")
		return false
	}
	return true
}

// nextField is where a schedule ends between braces.
var nextField = regexp.MustCompile(`\s*(,\s*[a-z_]+:.*|\}.*)$`)

// scheduleAlone leaves out what follows a schedule on its line.
func scheduleAlone(text string) string {
	text, _, _ = strings.Cut(text, " #")
	return strings.TrimSpace(nextField.ReplaceAllString(text, ""))
}

// tabIn is the column of the first tab in line number n, both from 1; 0 if there is none.
func tabIn(data []byte, n int) int {
	lines := bytes.Split(data, []byte("\n"))
	if n < 1 || n > len(lines) {
		return 0
	}
	before, _, found := bytes.Cut(lines[n-1], []byte("\t"))
	if !found {
		return 0
	}
	return utf8.RuneCount(before) + 1
}
