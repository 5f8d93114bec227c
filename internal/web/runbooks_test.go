package web

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/docs"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/trouble"
)

const (
	runbooksFile = "../../docs/runbooks.md"
	indexHead    = "| runbook | severity | what it means |\n|---|---|---|\n"
)

var (
	// means is how a runbook begins. The severity is that of its alert; holds and drift have theirs from the table.
	means     = regexp.MustCompile(`^\*\*Means(?: \((critical|warning)\))?\.\*\* (?s:(.*))`)
	linkInDoc = regexp.MustCompile(`\[([^\]]+)\]\(#[^)]+\)`)
)

// madeIndex makes the index of the runbooks from their sections: the first sentence of each is what it means.
func madeIndex(t *testing.T, markdown string) string {
	t.Helper()
	severities := map[string]status.Severity{}
	for _, r := range trouble.Table() {
		if severities[r.Code] != status.Critical {
			severities[r.Code] = r.Severity
		}
	}
	var b strings.Builder
	b.WriteString(indexHead)
	for _, s := range sections(markdown) {
		if s.Level != 2 {
			continue
		}
		m := means.FindStringSubmatch(s.Body)
		if m == nil {
			t.Fatalf("#%s does not begin with what it means", s.Anchor)
		}
		severity := status.Severity(m[1])
		if severity == "" {
			severity = severities[s.Anchor]
		}
		meaning := strings.Join(strings.Fields(m[2]), " ")
		meaning, _, _ = strings.Cut(meaning, ". ")
		meaning = linkInDoc.ReplaceAllString(strings.TrimSuffix(meaning, "."), "$1")
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s |\n", s.Heading, s.Anchor, severity, meaning)
	}
	return b.String()
}

// The runbooks begin with an index, made from them: -update writes it anew.
func TestTheIndexOfTheRunbooksIsUpToDate(t *testing.T) {
	file, err := os.ReadFile(runbooksFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(file), indexHead)
	rows, after, ends := strings.Cut(rest, "\n\n")
	if !found || !ends {
		t.Fatalf("%s has no table that begins with %q", runbooksFile, indexHead)
	}
	want := madeIndex(t, string(file))
	if *update {
		if err := os.WriteFile(runbooksFile, []byte(before+want+"\n"+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, indexHead+rows+"\n"); diff != "" {
		t.Errorf("%s (-want +got; go test ./internal/web -update writes it anew):\n%s", runbooksFile, diff)
	}
}

func TestTheRunbooksPageBeginsWithTheIndex(t *testing.T) {
	b := viewBook(docs.Runbooks)
	anchors := map[string]bool{}
	for _, s := range b.Sections {
		anchors[s.Anchor] = true
	}
	if len(b.Index) < 50 || strings.Contains(b.Sections[0].Body, "|") ||
		!strings.Contains(b.Sections[0].Body, "keyd") {
		t.Fatalf("%d rows in the index; above the runbooks it says\n%s", len(b.Index), b.Sections[0].Body)
	}
	for _, row := range b.Index {
		if !anchors[row.Anchor] || row.Meaning == "" {
			t.Errorf("%+v leads nowhere", row)
		}
	}
	a := ask(t, "GET", serve(t, (&world{}).config(t)), "/runbooks", nil)
	index, first := strings.Index(a.body, `<table class="index">`), strings.Index(a.body, "<section")
	if a.code != http.StatusOK || index < 0 || index > first ||
		!strings.Contains(
			a.body,
			`<a href="#hold-foreign-version">Hold: foreign-version</a></th><td class="critical">`,
		) {
		t.Errorf("%d, the index is at %d and the first section at %d", a.code, index, first)
	}
}
