//go:build clients

package clients

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

const document = "../../docs/emulator.md"

// made matches a generated part of the document: from its mark to the next "end".
var made = regexp.MustCompile(`(?s)<!-- made: ([a-z-]+) -->\n.*?<!-- end -->`)

// checkDocument compares the document with the results, or writes it.
func checkDocument(t *testing.T, table []operation, seen done) {
	parts := map[string]string{
		"curl":       excerpt(t, "sh", "hello.sh", "token="),
		"az":         excerpt(t, "sh", "az.sh", "az login"),
		"go":         excerpt(t, "go", "connect_test.go", "func connect"),
		"javascript": excerpt(t, "js", "js/connect.mjs", ""),
		"python":     excerpt(t, "python", "python/connect.py", ""),
		"versions":   versionsTable(t),
		"operations": operationsTable(t, table, seen),
		"errors":     errorsTable(t, table, seen),
	}
	old, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	current := made.ReplaceAllStringFunc(string(old), func(part string) string {
		name := made.FindStringSubmatch(part)[1]
		used[name] = true
		return fmt.Sprintf("<!-- made: %s -->\n%s<!-- end -->", name, parts[name])
	})
	for name := range parts {
		if !used[name] {
			t.Errorf("%s has no part %q", document, name)
		}
	}
	switch {
	case current == string(old):
	case *update:
		if err := os.WriteFile(document, []byte(current), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s is not as it was seen now: make test-clients UPDATE=1", document)
	}
}

// excerpt returns a file as a fenced block, from a text onwards.
func excerpt(t *testing.T, language, file, from string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	i := strings.Index(string(text), from)
	if i < 0 {
		t.Fatalf("%s has no %q", file, from)
	}
	return "```" + language + "\n" + string(text[i:]) + "```\n"
}

// operationsTable is operations × profiles × clients.
func operationsTable(t *testing.T, table []operation, seen done) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("| operation |")
	for _, p := range profiles() {
		for _, c := range allClients(t) {
			fmt.Fprintf(&b, " %s %s |", p.Name, c.name)
		}
	}
	b.WriteString("\n|---|" + strings.Repeat(":-:|", len(profiles())*len(allClients(t))) + "\n")
	var notes []string
	for _, o := range table {
		fmt.Fprintf(&b, "| %s |", o.name)
		for i, p := range profiles() {
			for _, c := range allClients(t) {
				want, departs := o.expected(c.name, i)
				r, did := seen[c.name][p.Name][o.name]
				fmt.Fprintf(&b, " %s%s |", r.mark(did, want), footnote(&notes, c, departs))
			}
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	for i, note := range notes {
		fmt.Fprintf(&b, "<sup>%d</sup> %s.\n", i+1, note)
	}
	return b.String()
}

// mark shows a result in the table.
func (r result) mark(did bool, expect string) string {
	switch {
	case !did:
		return ""
	case r.Outcome == succeeds:
		return "✓"
	case expect == absent:
		return "–"
	case strings.HasPrefix(expect, says):
		return "refused"
	}
	return fmt.Sprint(r.Error.Status)
}

// footnote gives a departure's number, adding its note when it is new.
func footnote(notes *[]string, c client, departs *departure) string {
	if departs == nil {
		return ""
	}
	note := c.title + ": " + departs.why
	for i, n := range *notes {
		if n == note {
			return fmt.Sprintf("<sup>%d</sup>", i+1)
		}
	}
	*notes = append(*notes, note)
	return fmt.Sprintf("<sup>%d</sup>", len(*notes))
}

// errorsTable shows how each SDK reports each refusal.
func errorsTable(t *testing.T, table []operation, seen done) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("| what is refused |")
	for _, c := range allClients(t) {
		fmt.Fprintf(&b, " %s |", c.title)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(allClients(t))) + "\n")
	listed := map[string]bool{}
	for _, o := range table {
		for i, p := range profiles() {
			what := o.expect[i]
			if strings.HasPrefix(what, says) {
				what = o.name
			}
			if what == succeeds || what == notThere || listed[what] {
				continue
			}
			listed[what] = true
			fmt.Fprintf(&b, "| %s |", what)
			for _, c := range allClients(t) {
				fmt.Fprintf(&b, " %s |", seen[c.name][p.Name][o.name].Error.cell())
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

// cell is how an SDK reports an error: its class, code and inner code.
func (e sdkReport) cell() string {
	if e.Class == "" {
		return ""
	}
	words := []string{e.Class, e.Code, e.Inner}
	for i, word := range words {
		if word != "" {
			words[i] = "`" + word + "`"
		}
	}
	return strings.Join(strings.Fields(strings.Join(words, " ")), " ")
}
