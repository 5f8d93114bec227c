package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

const sentence = "contoso-weu  imported 35ec27f5f085ab22d3a1428217783554, proof passed"

func TestARowFitsItsTerminal(t *testing.T) {
	for width, want := range map[int][]string{
		0:   {" 0:03  ✓ contoso-weu  imported 35ec27f5f085ab22d3a1428217783554, proof passed"},
		120: {" 0:03  ✓ contoso-weu  imported 35ec27f5f085ab22d3a1428217783554, proof passed"},
		80:  {" 0:03  ✓ contoso-weu  imported 35ec27f5f085ab22d3a1428217783554, proof passed"},
		60:  {" 0:03  ✓ contoso-weu  imported", "         35ec27f5f085ab22d3a1428217783554, proof passed"},
		40:  {"✓ contoso-weu  imported", "  35ec27f5f085ab22d3a1428217783554,", "  proof passed"},
	} {
		got := strings.Split(newRow(width, 3*time.Second, "✓", sentence).write(same, same), "\n")
		if !slices.Equal(got, want) {
			t.Errorf("on a terminal of %d columns:\n%s\nwant\n%s",
				width, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func TestAWordLongerThanALineIsWrapped(t *testing.T) {
	const width = 20
	got := newRow(width, 0, "✓", sentence).write(same, same)
	for line := range strings.SplitSeq(got, "\n") {
		if columns(line) >= width {
			t.Errorf("%q has %d columns", line, columns(line))
		}
	}
	if squeezed := strings.Join(strings.Fields(got), ""); squeezed != "✓"+strings.Join(strings.Fields(sentence), "") {
		t.Errorf("something is missing in\n%s", got)
	}
}

func TestATextThatIsTooLongIsCutWithAMark(t *testing.T) {
	if got := cut("der Schlüssel", 6); got != "der S…" {
		t.Errorf("%q", got)
	}
	if got := cut("Schlüssel", 9); got != "Schlüssel" {
		t.Errorf("%q", got)
	}
}

func TestTextFromElsewhereCannotMoveTheCursor(t *testing.T) {
	if got := clean("a\x1b[2Jb\nc"); got != "a\uFFFD[2Jb c" {
		t.Errorf("%q", got)
	}
}

func TestTheClockCountsMinutes(t *testing.T) {
	if got := clock(3725 * time.Second); got != "62:05" {
		t.Errorf("%q", got)
	}
}
