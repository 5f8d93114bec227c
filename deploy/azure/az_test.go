// Package azure_test checks what the pages in docs say of az, above all azure-quick-start.md, which sets up what the
// roles in this folder are for. Its rule: the flags are Debian's azure-cli's, and the configuration is one that keyd
// takes.
package azure_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const quickStart = "../../docs/azure-quick-start.md"

// everywhere are the flags that every command of az has.
var everywhere = []string{"--query", "--output", "--only-show-errors", "--debug", "--verbose", "--help", "-o", "-h"}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// fences returns the blocks of a page in one language, without their indentation.
func fences(page, language string) (found []string) {
	pattern := regexp.MustCompile("(?ms)^( *)```" + language + "\n(.*?)^ *```$")
	for _, m := range pattern.FindAllStringSubmatch(page, -1) {
		found = append(found, regexp.MustCompile(`(?m)^`+m[1]).ReplaceAllString(m[2], ""))
	}
	return found
}

// invocation is one az on a command line: its words up to the first flag, and its flags.
type invocation struct {
	words string
	flags []string
}

// invocations returns every az of a console block: at the head of a command, or inside $(…).
func invocations(block string) (found []invocation) {
	for _, line := range strings.Split(strings.ReplaceAll(block, "\\\n", " "), "\n$ ") {
		var now *invocation
		for _, word := range split(strings.TrimPrefix(line, "$ ")) {
			switch {
			case word == "az" || strings.HasSuffix(word, "=$(az"):
				found = append(found, invocation{})
				now = &found[len(found)-1]
			case now == nil:
			case word == "|" || word == "&&":
				now = nil
			case strings.HasPrefix(word, "-"):
				now.flags = append(now.flags, word)
			case len(now.flags) == 0:
				now.words = strings.TrimSpace(now.words + " " + word)
			}
		}
	}
	return found
}

// split returns the words of a command line; a quoted part is no separate word, and a comment none at all.
func split(line string) (words []string) {
	var word strings.Builder
	quote := rune(0)
	end := func() {
		if word.Len() > 0 {
			words = append(words, word.String())
		}
		word.Reset()
	}
	for _, r := range line {
		switch {
		case quote != 0:
			if r == quote {
				quote = 0
			}
			word.WriteRune('x') // whatever is quoted is neither a flag nor a command
		case r == '\'' || r == '"':
			quote = r
			word.WriteRune('x')
		case r == '#' && word.Len() == 0:
			return words
		case r == ' ' || r == '\n' || r == ')':
			end()
		default:
			word.WriteRune(r)
		}
	}
	end()
	return words
}

// command is what testdata/az-2.45.0.txt says of one: its flags, each with its other names, and which must be given.
type command struct {
	flags, required [][]string
}

func commands(t *testing.T) map[string]command { return commandsIn(t, "testdata/az-2.45.0.txt") }

func commandsIn(t *testing.T, list string) map[string]command {
	t.Helper()
	all := map[string]command{}
	for _, line := range strings.Split(strings.TrimSpace(read(t, list)), "\n") {
		words, flags, ok := strings.Cut(line, ":")
		if strings.HasPrefix(line, "#") || !ok {
			continue
		}
		var c command
		for _, flag := range strings.Fields(flags) {
			names := strings.Split(strings.TrimPrefix(flag, "*"), "|")
			c.flags = append(c.flags, names)
			if strings.HasPrefix(flag, "*") {
				c.required = append(c.required, names)
			}
		}
		all[words] = c
	}
	return all
}

func (c command) has(flag string) bool {
	return slices.ContainsFunc(c.flags, func(names []string) bool { return slices.Contains(names, flag) })
}

func TestEveryAzLineIsOneThatDebiansAzTakes(t *testing.T) {
	known := commands(t)
	used := map[string]bool{}
	for _, block := range fences(read(t, quickStart), "console") {
		for _, az := range invocations(block) {
			c, ok := known[az.words]
			if !ok {
				t.Errorf("testdata/az-2.45.0.txt does not have az %s", az.words)
				continue
			}
			used[az.words] = true
			for _, flag := range az.flags {
				if !c.has(flag) && !slices.Contains(everywhere, flag) {
					t.Errorf("az %s has no flag %s", az.words, flag)
				}
			}
			for _, names := range c.required {
				if !slices.ContainsFunc(az.flags, func(flag string) bool { return slices.Contains(names, flag) }) {
					t.Errorf("az %s lacks %s", az.words, names[0])
				}
			}
		}
	}
	for words := range known {
		if !used[words] {
			t.Errorf("testdata/az-2.45.0.txt has az %s, which the page does not use", words)
		}
	}
	if n := strings.Count(read(t, quickStart), "az "); len(used) < 20 || n < 30 {
		t.Errorf("only %d commands were read", len(used))
	}
}

func TestAnAzIsFoundWhereverItStandsOnALine(t *testing.T) {
	is := invocations(`$ ID=$(az identity show --name $VAULT-a \
      --query "{id:id} --no" --output tsv)   # az --no
$ az group create --name x | sed 's|az --no||'
`)
	if len(is) != 2 {
		t.Fatalf("%d were found: %v", len(is), is)
	}
	if is[0].words != "identity show" || !slices.Equal(is[0].flags, []string{"--name", "--query", "--output"}) {
		t.Errorf("inside $(…): %v", is[0])
	}
	if is[1].words != "group create" || !slices.Equal(is[1].flags, []string{"--name"}) {
		t.Errorf("before a pipe: %v", is[1])
	}
}
