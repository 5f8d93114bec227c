package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// commands returns all commands, by the words that call them.
func commands() map[string]*cobra.Command {
	all := map[string]*cobra.Command{}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		all[c.CommandPath()] = c
		for _, below := range c.Commands() {
			walk(below)
		}
	}
	walk((&app{in: os.Stdin, out: os.Stdout, err: os.Stderr}).root())
	return all
}

// scripts returns the text of all scripts, by file.
func scripts(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	texts := map[string]string{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[file] = string(b)
	}
	return texts
}

func TestEveryCommandExplainsItself(t *testing.T) {
	for path, c := range commands() {
		if c.Short == "" || c.Long == "" || !strings.Contains(c.Example, "keyd ") {
			t.Errorf("%s lacks a Short, a Long or an Example", path)
		}
		if c.Runnable() && c.Args == nil && c.Name() != "rotate" && c.Name() != "help" {
			t.Errorf("%s takes any arguments: set Args", path)
		}
	}
}

// With UPDATE_GOLDEN=1 this test writes the missing scripts.
func TestEveryCommandsHelpHasAScript(t *testing.T) {
	for path := range commands() {
		file := "testdata/script/help_" + strings.ReplaceAll(path, " ", "_") + ".txtar"
		want := "exec " + path + " --help\ncmp stdout help.txt\n"
		b, err := os.ReadFile(file)
		switch {
		case err != nil && os.Getenv("UPDATE_GOLDEN") != "":
			if err := os.WriteFile(file, []byte(want+"\n-- help.txt --\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		case err != nil:
			t.Errorf("%s --help has no golden script: run UPDATE_GOLDEN=1 go test ./cmd/keyd twice", path)
		case !strings.HasPrefix(string(b), want):
			t.Errorf("%s does not begin with\n%s", file, want)
		}
	}
}

func TestEveryCommandIsRunByAScript(t *testing.T) {
	var all strings.Builder
	for file, text := range scripts(t) {
		if !strings.HasPrefix(filepath.Base(file), "help_") {
			text, _, _ = strings.Cut(text, "\n-- ")
			all.WriteString(text + "\n")
		}
	}
	for path, c := range commands() {
		if c.Runnable() && !regexp.MustCompile(`\b`+path+`( |'|$|\n)`).MatchString(all.String()) {
			t.Errorf("no script in testdata/script runs %s", path)
		}
	}
}

func TestTheReadmesTableHasEveryCommand(t *testing.T) {
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	for _, row := range regexp.MustCompile("(?m)^\\| `keyd .*$").FindAllString(string(b), -1) {
		table.WriteString(row + "\n")
	}
	all := commands()
	for path := range all {
		if strings.Count(path, " ") == 1 && !strings.Contains(table.String(), "`"+path) {
			t.Errorf("the table of commands in README.md does not have %s", path)
		}
	}
	for _, m := range regexp.MustCompile("`(keyd [a-z-]+)").FindAllStringSubmatch(table.String(), -1) {
		if all[m[1]] == nil {
			t.Errorf("README.md has %s, which is no command", m[1])
		}
	}
}
