package web

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/keyd-project/keyd/internal/status"
)

// section is a heading of a Markdown text with the text below it.
type section struct {
	Anchor  string // as GitHub makes it, so that links work in both places
	Heading string
	Level   int // 1 to 6
	Body    string
}

// book is what runbooks.html shows.
type book struct {
	Index    []indexRow
	Sections []section
}

// indexRow is one runbook in the index.
type indexRow struct {
	Heading, Anchor string
	Severity        status.Severity
	Meaning         string
}

// indexLine is a row of the index in the Markdown text: a table with a link, the severity and the meaning.
var indexLine = regexp.MustCompile(`^\| \[([^\]]+)\]\(#([^)]+)\) \| (critical|warning) \| (.*) \|$`)

// viewBook takes the index out of the text above the runbooks.
func viewBook(markdown string) book {
	b := book{Sections: sections(markdown)}
	if len(b.Sections) == 0 {
		return b
	}
	var rest []string
	for line := range strings.SplitSeq(b.Sections[0].Body, "\n") {
		if m := indexLine.FindStringSubmatch(line); m != nil {
			b.Index = append(b.Index, indexRow{m[1], m[2], status.Severity(m[3]), strings.ReplaceAll(m[4], "`", "")})
		} else if !strings.HasPrefix(line, "|") { // the head of the table
			rest = append(rest, line)
		}
	}
	b.Sections[0].Body = strings.Trim(strings.Join(rest, "\n"), "\n")
	return b
}

// sections splits a Markdown text at its headings: lines that begin with '#', outside
// fenced blocks. It omits the text before the first one.
func sections(markdown string) []section {
	var all []section
	var body strings.Builder
	used := map[string]int{}
	fenced := false
	end := func() {
		if len(all) > 0 {
			all[len(all)-1].Body = strings.Trim(body.String(), "\n")
		}
		body.Reset()
	}
	for line := range strings.Lines(markdown) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		rest := strings.TrimLeft(line, "#")
		level := len(line) - len(rest)
		if fenced || level == 0 || level > 6 || !strings.HasPrefix(rest, " ") {
			body.WriteString(line)
			continue
		}
		end()
		heading := strings.TrimSpace(rest)
		anchor := slug(heading)
		if used[anchor]++; used[anchor] > 1 {
			anchor += "-" + strconv.Itoa(used[anchor]-1)
		}
		all = append(all, section{Anchor: anchor, Heading: heading, Level: level})
	}
	end()
	return all
}

// slug returns a heading's anchor: lower case; letters, digits, hyphens and underscores
// stay, spaces become hyphens, other characters are dropped.
func slug(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
}
