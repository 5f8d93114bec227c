package plan_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/keyd-project/keyd/internal/plan"
)

var update = flag.Bool("update", false, "write docs/rules.md instead of comparing it")

const rulesPage = "../../docs/rules.md"

// docs/rules.md is written from the rules and their examples, so that it cannot say anything else.
func TestTheRulesPageIsWrittenFromTheRulesAndTheirExamples(t *testing.T) {
	want := page(t)
	if *update {
		if err := os.WriteFile(rulesPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(rulesPage)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("docs/rules.md is not what the rules say. Write it with: go test ./internal/plan -update")
	}
}

const preface = "keyd decides what to do next with a key by one list of rules. It asks them in the order of this " +
	"page, and the first rule that answers decides. Each answer is one step. Then keyd looks and asks again. The " +
	"rules know four things: the time, the key's policy, its record, and what the HSM, the vaults and those who use " +
	"the key show.\n\n" +
	"`keyd plan --explain KEY` shows for one key what each rule says now.\n\n" +
	"The tests of `internal/plan` write this page from the rules and their examples, each of which is a test. Write " +
	"it again with `go test ./internal/plan -update`. The examples show where a rule answers, where it does not, and " +
	"which rule comes before it. Unless an example says otherwise, the key has two Key Vaults, weu and neu, and no " +
	"consumers; with consumers it has weu alone. mhsm is a Managed HSM."

func page(t *testing.T) string {
	var b strings.Builder
	b.WriteString("# The rules\n\n")
	for p := range strings.SplitSeq(preface, "\n\n") {
		b.WriteString(wrapped(p, "", "") + "\n")
	}
	chapters := table()
	for i, r := range plan.Rules() {
		fmt.Fprintf(&b, "## %d. %s\n\n%s\n", i+1, r.Name, wrapped(r.Says, "", ""))
		writeExamples(&b, chapters[i])
	}
	b.WriteString("## When no rule answers\n\n" + wrapped("keyd changes nothing before the schedule, or an operator, "+
		"asks for a rotation. It goes on looking and proving.", "", "") + "\n")
	writeExamples(&b, chapters[len(chapters)-1])
	return strings.TrimSuffix(b.String(), "\n")
}

func writeExamples(b *strings.Builder, c chapter) {
	for _, e := range c.examples {
		b.WriteString(wrapped(e.says+" → "+outcome(c, e.then), "- ", "  "))
	}
	b.WriteString("\n")
}

// outcome is the step, and the rule that decides if it is another one.
func outcome(c chapter, w *want) string {
	text := "**" + string(w.kind) + "**"
	if w.number > 0 {
		text += fmt.Sprintf(" generation %d", w.number)
	}
	if w.vault.Name != "" {
		text += " in " + w.vault.Name
	}
	if w.cause != "" {
		text += fmt.Sprintf(" (cause: %s)", w.cause)
	}
	if w.code != "" {
		text += fmt.Sprintf(" (`%s`)", w.code)
	}
	switch w.rule {
	case c.rule:
	case "":
		text += ": no rule answers"
	default:
		text += ", by the rule *" + w.rule + "*"
	}
	return text
}

// wrapped wraps a paragraph at 120 columns.
func wrapped(text, first, then string) string {
	var b strings.Builder
	line, width := first, utf8.RuneCountInString(first)
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		if i > 0 && width+1+n > 120 {
			b.WriteString(line + "\n")
			line, width = then, utf8.RuneCountInString(then)
		} else if i > 0 {
			line, width = line+" ", width+1
		}
		line, width = line+word, width+n
	}
	return b.String() + line + "\n"
}
