package main

import (
	"bytes"
	"flag"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write testdata/help.golden")

func TestHelp(t *testing.T) {
	var out bytes.Buffer
	cmd := newCommand()
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"--help"})
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/help.golden"
	if *update {
		if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), out.String()); d != "" {
		t.Errorf("go test ./cmd/keyvault-emulator -update writes what is right:\n%s", d)
	}
}

func TestEveryFlagIsInOneGroupOfTheHelp(t *testing.T) {
	cmd := newCommand()
	cmd.InitDefaultHelpFlag()
	var grouped, all []string
	for _, g := range groups() {
		grouped = append(grouped, g.flags...)
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) { all = append(all, f.Name) })
	slices.Sort(grouped)
	slices.Sort(all)
	if d := cmp.Diff(all, grouped); d != "" {
		t.Errorf("flags, and what groups have:\n%s", d)
	}
}
