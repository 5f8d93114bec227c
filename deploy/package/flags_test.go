package package_test

import (
	"regexp"
	"strings"
	"testing"
)

// buildCommand is the go build of a text, in one line and without its output.
func buildCommand(t *testing.T, path string) string {
	t.Helper()
	_, rest, _ := strings.Cut(read(t, path), "go build ")
	flags, _, found := strings.Cut(strings.ReplaceAll(rest, "\\\n", " "), "./cmd/keyd ")
	if !found {
		t.Fatalf("%s has no go build of keyd", path)
	}
	flags = regexp.MustCompile(` -o \S+`).ReplaceAllString(flags, "")
	return strings.Join(strings.Fields(flags), " ")
}

func TestTheFlagsOfTheReleaseBuildAreWrittenDown(t *testing.T) {
	if built, written := buildCommand(t, "build"), buildCommand(t, "../../docs/packages.md"); built != written {
		t.Errorf("the build has the flags %s\nand docs/packages.md says %s", built, written)
	}
}
