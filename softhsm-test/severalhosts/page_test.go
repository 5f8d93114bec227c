// Package severalhosts runs the commands of docs/several-hosts.md as they are printed, with the real keyd, on a real
// PostgreSQL with its standby, and on a real etcd. Its rule: every block of the page is used, in the page's order. What
// does not run as printed is in the tables of host_test.go; a test adds only the addresses of its servers.
package severalhosts

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const page = "../../docs/several-hosts.md"

// block is a block of code on the page.
type block struct {
	section  string // the heading above it
	line     int    // of the page, where its text begins
	language string // "" for a piece of a file
	text     string
}

// blocks reads the page.
func blocks(t *testing.T) (all []block) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	section, inBlock, margin := "", false, ""
	for i, line := range strings.Split(string(text), "\n") {
		indented := strings.TrimLeft(line, " ")
		switch mark, fence := strings.CutPrefix(indented, "```"); {
		case fence && !inBlock:
			margin = line[:len(line)-len(indented)]
			all = append(all, block{section: section, line: i + 2, language: mark})
			inBlock = true
		case fence:
			inBlock = false
		case inBlock:
			all[len(all)-1].text += strings.TrimPrefix(line, margin) + "\n"
		case strings.HasPrefix(line, "#"):
			section = strings.TrimSpace(strings.TrimLeft(line, "#"))
		}
	}
	return all
}

// with is the block with another text in place of one, as the page tells the reader to write it.
func (b block) with(printed, instead string) block {
	b.text = strings.ReplaceAll(b.text, printed, instead)
	return b
}

// cut divides a block before its first line that begins like this.
func (b block) cut(begins string) (before, after block) {
	at := max(0, strings.Index(b.text, "\n"+begins)+1)
	before, after = b, b
	before.text, after.text = b.text[:at], b.text[at:]
	after.line += strings.Count(before.text, "\n")
	return before, after
}

// reader goes through the blocks of one section.
type reader struct {
	t    *testing.T
	left []block
}

// read begins a section. The test must use each of its blocks.
func read(t *testing.T, section string) *reader {
	t.Helper()
	r := &reader{t: t}
	for _, b := range blocks(t) {
		if b.section == section {
			r.left = append(r.left, b)
		}
	}
	t.Cleanup(func() {
		for _, b := range r.left {
			if !t.Failed() {
				t.Errorf("%s:%d: nobody runs or reads this block:\n%s", page, b.line, b.text)
			}
		}
	})
	return r
}

// next is the next block, which must be of that language.
func (r *reader) next(language string) block {
	r.t.Helper()
	if len(r.left) == 0 || r.left[0].language != language {
		r.t.Fatalf("no block of %q comes next, but %+v", language, r.left)
	}
	b := r.left[0]
	r.left = r.left[1:]
	return b
}

// step is one command of a block, what is typed into the program that it starts, and what that prints.
type step struct {
	line    int
	command string
	typed   []string
	shown   []string // of what it prints
}

// steps takes the commands out of a console block. They begin with a prompt, and continue after a backslash or a pipe.
// After psql's prompt is what is typed there.
func (b block) steps(t *testing.T) (all []step) {
	t.Helper()
	goesOn := false
	for i, line := range strings.Split(strings.TrimSuffix(b.text, "\n"), "\n") {
		sql, psql := strings.CutPrefix(line, "postgres=# ")
		command, root := strings.CutPrefix(line, "# ")
		if !root {
			command, root = strings.CutPrefix(line, "$ ")
		}
		switch {
		case goesOn:
			all[len(all)-1].command += "\n" + line
		case root:
			all = append(all, step{line: b.line + i, command: command})
		case psql && len(all) > 0:
			all[len(all)-1].typed = append(all[len(all)-1].typed, sql)
			continue
		case len(all) == 0:
			t.Fatalf("%s:%d: %q is no command: write a prompt before it", page, b.line+i, line)
		default:
			all[len(all)-1].shown = append(all[len(all)-1].shown, line)
		}
		goesOn = strings.HasSuffix(line, `\`) || strings.HasSuffix(line, "|")
	}
	return all
}

// shown is what the commands of a block print.
func (b block) shown(t *testing.T) (lines []string) {
	t.Helper()
	for _, s := range b.steps(t) {
		lines = append(lines, s.shown...)
	}
	return lines
}

// missing returns an error that names the first line that a block shows and nothing printed after the line before it.
// What has a digit, such as a time or a number, may be another.
func missing(shown []string, printed string) error {
	lines := strings.Split(printed, "\n")
	for _, want := range shown {
		words := strings.Fields(want)
		for i, word := range words {
			if strings.ContainsAny(word, "0123456789") {
				words[i] = `\S+`
			} else {
				words[i] = regexp.QuoteMeta(word)
			}
		}
		form := regexp.MustCompile(`^\s*` + strings.Join(words, `\s+`) + `\s*$`)
		at := slices.IndexFunc(lines, form.MatchString)
		if at < 0 {
			return fmt.Errorf("nothing prints the line that the page shows: %s", want)
		}
		lines = lines[at+1:]
	}
	return nil
}

// sections are those with code. A test reads each of them.
var sections = []string{
	namePeople, ask, backUp, move, addHosts, wayBack, onPostgres, onEtcd, dayByDay, coldStandby,
}

const (
	namePeople  = "1. Name the host and the people"
	ask         = "3. Ask what is wrong with it"
	backUp      = "4. Back up"
	move        = "5. Move the state"
	addHosts    = "6. Add the other hosts"
	wayBack     = "The way back"
	onPostgres  = "On PostgreSQL"
	onEtcd      = "On etcd"
	dayByDay    = "Day by day"
	coldStandby = "A cold-standby drill for one host"
)

// Together with read, this finds every block that no test knows.
func TestEveryBlockOfThePageIsInASectionThatATestReads(t *testing.T) {
	for _, b := range blocks(t) {
		if !slices.Contains(sections, b.section) {
			t.Errorf("%s:%d: no test reads the section %q", page, b.line, b.section)
		}
	}
}
