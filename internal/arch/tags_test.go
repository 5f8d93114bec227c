package arch_test

import (
	"go/build/constraint"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A file with a tag that the linter does not have is never looked at.
func TestTheLinterHasEveryBuildTag(t *testing.T) {
	makefile, err := os.ReadFile(top + "/Makefile")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^TAGS := (\S+)$`).FindSubmatch(makefile)
	if line == nil {
		t.Fatal("the Makefile names no tags")
	}
	tags := strings.Split(string(line[1]), ",")
	used := map[string]bool{}
	sources(t, func(path, text string) {
		if !strings.HasSuffix(path, ".go") {
			return
		}
		for l := range strings.Lines(text) {
			if !constraint.IsGoBuild(l) {
				continue
			}
			expr, err := constraint.Parse(l)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			expr.Eval(func(tag string) bool {
				used[tag] = true
				if !slices.Contains(tags, tag) {
					t.Errorf("%s has the build tag %s: add it to TAGS in the Makefile", path, tag)
				}
				return true
			})
		}
	})
	for _, tag := range tags {
		if !used[tag] {
			t.Errorf("no file has the build tag %s: take it out of TAGS in the Makefile", tag)
		}
	}
}
