package arch_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const top = "../.."

// maySkip has the files that skip a test, each with the reason why that leaves no test out unseen.
var maySkip = map[string]string{
	"softhsm-test/rights/rights.go":  "make test counts and names it; in CI it fails",
	"softhsm-test/e2e/fault_test.go": "what is not in the sample is what make faults runs",
	"softhsm-test/e2e/token_test.go": "what does not apply to a token of one's own; make test never uses one",
	"softhsm-test/e2e/crash_test.go": "make crashtest counts the tokens that SoftHSM lost, and repeats their stories",
}

var (
	skipInGo     = regexp.MustCompile(`.*(\.Skip(f|Now)?\(|testing\.Short\().*`)
	skipInScript = regexp.MustCompile(`(?m)^(\[[^\]]*\]\s*)*skip\b`)
)

// skips reports whether the text skips a test. It ignores tests that are skipped for another module than SoftHSM:
// make test sets no KEYD_TEST_MODULE.
func skips(pattern *regexp.Regexp, text string) bool {
	return slices.ContainsFunc(pattern.FindAllString(text, -1), func(line string) bool {
		return !strings.Contains(line, "KEYD_TEST_MODULE")
	})
}

func TestNoTestIsSkippedUnseen(t *testing.T) {
	var skip []string
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); name == "node_modules" || strings.HasPrefix(name, ".") && path != top {
				return fs.SkipDir
			}
			return nil
		}
		var pattern *regexp.Regexp
		switch filepath.Ext(path) {
		case ".go":
			pattern = skipInGo
		case ".txt", ".txtar":
			pattern = skipInScript
		default:
			return nil
		}
		text, err := os.ReadFile(path)
		if err == nil && skips(pattern, string(text)) {
			skip = append(skip, strings.TrimPrefix(filepath.ToSlash(path), top+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range skip {
		if maySkip[path] == "" && path != "internal/arch/skips_test.go" {
			t.Errorf("%s skips a test: ask softhsm-test/rights for what it needs, or say here why that is seen", path)
		}
	}
	for path := range maySkip {
		if !slices.Contains(skip, path) {
			t.Errorf("%s skips nothing: take it off the list", path)
		}
	}
}
