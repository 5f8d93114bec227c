package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Without tzdata, keyd would not know any time zone.
func TestTheProgramBringsItsTimeZones(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(strings.Fields(string(out)), "time/tzdata") {
		t.Error("time/tzdata is not linked")
	}
}
