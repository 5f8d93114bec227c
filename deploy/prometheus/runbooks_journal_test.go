package prometheus_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// inJournal is a search of the journal that a page shows, with its pattern.
var inJournal = regexp.MustCompile(`journalctl [^|` + "`" + `]*\| grep ('[^']+'|\w+)`)

func TestWhatADocumentSearchesTheJournalForIsLogged(t *testing.T) {
	var source strings.Builder
	for _, pattern := range []string{"../../internal/*/*.go", "../../internal/*/*/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no source: %v", pattern, err)
		}
		for _, file := range files {
			if !strings.HasSuffix(file, "_test.go") {
				source.WriteString(read(t, file))
			}
		}
	}
	searches := 0
	for _, page := range []string{runbooks, "../../docs/operations.md"} {
		for _, m := range inJournal.FindAllStringSubmatch(read(t, page), -1) {
			searches++
			words := regexp.QuoteMeta(strings.Trim(m[1], "'"))
			logged := regexp.MustCompile(`\.(Info|Warn|Error)(Context)?\((\s*ctx,)?\s*"[^"]*` + words)
			if !logged.MatchString(source.String()) {
				t.Errorf("%s searches the journal for %s, and keyd logs nothing like that", page, m[1])
			}
		}
	}
	if searches < 3 {
		t.Errorf("only %d searches were found", searches)
	}
}
