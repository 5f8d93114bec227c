package arch_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const (
	root       = "../.."
	maxLines   = 400 // of a Go file that is not a test
	maxColumns = 120 // a tab counts as four
)

// long lists Go files that may have more than maxLines lines, each with the reason. It is empty: keep it so.
var long = map[string]string{}

// notOurs are folders without text of keyd's own, or with text that a program wrote.
var notOurs = []string{".git", ".tools", "bin", "dist", "node_modules", "testdata"}

// read has the names, and endings of names, of text files that people read.
var read = []string{
	".go", ".md", ".8", ".5", ".yaml", ".yml", ".sh", ".py", ".mjs", ".js", ".css", ".html", ".conf", ".service", ".c",
	"Makefile", ".ci/run", ".ci/fuzz", "deploy/package/build", "deploy/package/check", "deploy/package/next",
	"/postinst", "/postrm", "/prerm", "/post", "/postun", "/preun", "softhsm-test/demo/build",
}

// sources calls fn with every text file that people read, by its path from the root.
func sources(t *testing.T, fn func(path, text string)) {
	t.Helper()
	count := 0
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains(notOurs, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		path := filepath.ToSlash(strings.TrimPrefix(file, root+string(filepath.Separator)))
		if !slices.ContainsFunc(read, func(end string) bool { return strings.HasSuffix(path, end) }) {
			return nil
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		count++
		fn(path, string(b))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if count < 500 {
		t.Fatalf("only %d files were read", count)
	}
}

func TestNoGoFileIsTooLong(t *testing.T) {
	sources(t, func(path, text string) {
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return
		}
		n := strings.Count(text, "\n")
		switch reason, excepted := long[path]; {
		case n > maxLines && !excepted:
			t.Errorf("%s has %d lines, more than %d: split it by what it does", path, n, maxLines)
		case n <= maxLines && excepted, excepted && reason == "":
			t.Errorf("%s has %d lines: it needs no exception, or its exception needs a reason", path, n)
		}
	})
}

func TestNoLineIsTooWide(t *testing.T) {
	sources(t, func(path, text string) {
		for _, n := range wide(path, text) {
			t.Errorf("%s:%d is wider than %d columns", path, n, maxColumns)
		}
	})
}

// wide lists the lines that are too wide, except tables in Markdown and what cannot be broken.
func wide(path, text string) (lines []int) {
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, "\r\n")
		columns := utf8.RuneCountInString(strings.ReplaceAll(line, "\t", "    "))
		table := strings.HasSuffix(path, ".md") && strings.HasPrefix(strings.TrimSpace(line), "|")
		if columns > maxColumns && !table && !unbreakable(line) {
			lines = append(lines, n)
		}
	}
	return lines
}

// unbreakable reports whether a line is a URL or an Azure resource id, with no more than a mark and a name before it.
func unbreakable(line string) bool {
	words := strings.Fields(line)
	if len(words) == 0 || len(words) > 3 {
		return false
	}
	last := words[len(words)-1]
	return strings.Contains(last, "://") || strings.Contains(last, "/subscriptions/")
}

func TestWideLinesAreFoundAndUnbreakableOnesAllowed(t *testing.T) {
	long := strings.Repeat("x", 110)
	for _, c := range []struct {
		name, path, line string
		want             int
	}{
		{"at the limit", "a.go", strings.Repeat("ä", 120), 0},
		{"one more", "a.go", strings.Repeat("ä", 121), 1},
		{"a tab counts as four", "a.go", "\t" + strings.Repeat("x", 117), 1},
		{"a table in Markdown", "a.md", "| " + long + " | " + long + " |", 0},
		{"the same elsewhere", "a.go", "| " + long + " | " + long + " |", 1},
		{"a URL alone", "a.md", "  [1]: https://example.com/" + long, 0},
		{"a resource id alone", "a.yaml", "  - /subscriptions/" + long, 0},
		{"a URL at the end of a sentence", "a.md", "see the page at https://example.com/" + long, 1},
	} {
		if got := wide(c.path, c.line+"\n"); len(got) != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
