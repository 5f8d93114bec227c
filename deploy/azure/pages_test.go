package azure_test

import (
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The other pages that tell a person to use az.
var pages = []string{"runbooks.md", "operations.md", "configuration.md", "packages.md", "emulator.md"}

// unlisted are the commands of those pages whose flags no list here has. Whoever has Debian's azure-cli adds a line
// with the words to testdata/az-2.45.0.txt, and has az-commands.py fill it.
var unlisted = []string{
	"ad sp show", "keyvault key get-attestation", "keyvault key recover", "keyvault key rotation-policy update",
	"keyvault key set-attributes", "keyvault role definition create", "monitor diagnostic-settings create",
	"monitor diagnostic-settings list", "resource list", "rest",
}

// onPage returns every az of a page: in a block, or in the middle of a sentence.
func onPage(page string) (found []invocation) {
	text := strings.ReplaceAll(page, "\\\n", " ")
	for _, m := range regexp.MustCompile("(?ms)^ *```[a-z]*\n(.*?)^ *```$").FindAllStringSubmatch(text, -1) {
		for line := range strings.Lines(m[1]) {
			found = append(found, invocations(strings.TrimPrefix(strings.TrimSpace(line), "$ "))...)
		}
	}
	outside := regexp.MustCompile("(?ms)^ *```.*?^ *```$").ReplaceAllString(text, "")
	for _, m := range regexp.MustCompile("`(az [^`]+)`").FindAllStringSubmatch(outside, -1) {
		found = append(found, invocations(strings.Join(strings.Fields(m[1]), " "))...)
	}
	return slices.DeleteFunc(found, func(az invocation) bool { return len(az.flags) == 0 }) // only its name is said
}

func TestEveryAzOfTheOtherPagesHasFlagsThatDebiansAzTakes(t *testing.T) {
	known := commands(t)
	maps.Copy(known, commandsIn(t, "../../internal/consumer/testdata/az-2.45.0.txt"))
	checked, unchecked := 0, map[string]bool{}
	for _, name := range pages {
		page := read(t, filepath.Join("../../docs", name))
		for _, az := range onPage(page) {
			az.words = strings.TrimSuffix(az.words, " …")
			c, ok := known[az.words]
			switch {
			case ok:
				checked++
				for _, flag := range az.flags {
					if !c.has(flag) && !slices.Contains(everywhere, flag) {
						t.Errorf("%s: az %s has no flag %s", name, az.words, flag)
					}
				}
				for _, names := range c.required {
					if !slices.ContainsFunc(az.flags, func(flag string) bool { return slices.Contains(names, flag) }) {
						t.Errorf("%s: az %s lacks %s", name, az.words, names[0])
					}
				}
			case !slices.Contains(unlisted, az.words):
				t.Errorf("%s: no list has az %s", name, az.words)
			default:
				unchecked[az.words] = true
			}
		}
	}
	for _, words := range unlisted {
		if _, listed := known[words]; listed || !unchecked[words] {
			t.Errorf("az %s is listed, or no page has it", words)
		}
	}
	if checked < 8 {
		t.Errorf("only %d were checked", checked)
	}
}
