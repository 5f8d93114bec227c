package main

import (
	"strings"
	"testing"
)

func written(t table, indent string) string {
	var b strings.Builder
	t.write(&b, indent)
	return b.String()
}

func wantText(t *testing.T, got string, want ...string) {
	t.Helper()
	if want := strings.Join(want, "\n") + "\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestColumnsAreAlignedWhateverTheRunes(t *testing.T) {
	var table table
	table.add(plain("größe", "a\x1b[2J", "x")...)
	table.add(plain("鍵管理", "b", "y")...)
	table.add(plain("", "→ reaches over the rest")...)
	wantText(t, written(table, " "),
		" größe   a\uFFFD[2J  x",
		" 鍵管理  b      y",
		"         → reaches over the rest")
}

func TestColoursTakeUpNoColumns(t *testing.T) {
	s := style{colour: true}
	table := s.table()
	table.add(cell{"up", s.good}, cell{text: "x"})
	table.add(plain("down", "y")...)
	wantText(t, written(table, ""), "\x1b[32mup\x1b[0m    x", "down  y")
}

func TestTheLastCellWrapsToFit(t *testing.T) {
	table := table{width: 32}
	table.add(plain("short", "some more words than fit here", "")...)
	table.rows[0] = table.rows[0][:2]
	table.add(plain("longer", "few")...)
	wantText(t, written(table, "  "),
		"  short   some more words than",
		"          fit here",
		"  longer  few")
}

func TestATitledTableThatDoesNotFitIsStacked(t *testing.T) {
	table := table{width: 40}
	table.title(style{}, "KEY", "STATE", "NEXT ROTATION")
	table.add(plain("a-key-with-a-long-name-that-is-not-cut-at-all", "ok", "in 20 days or when the window opens")...)
	wantText(t, written(table, ""),
		"a-key-with-a-long-name-that-is-not-cut-at-all",
		"  state          ok",
		"  next rotation  in 20 days or when the",
		"                 window opens")
}

func TestOtherTablesPutTheLastCellBelow(t *testing.T) {
	table := table{width: 30}
	table.add(plain("contoso-weu", "0123456789abcdef", "proven 2 min ago")...)
	wantText(t, written(table, ""), "contoso-weu  0123456789abcdef", "    proven 2 min ago")
}

func TestWithoutATerminalNothingWraps(t *testing.T) {
	var table table
	long := strings.Repeat("word ", 100) + "end"
	table.add(plain("a", long)...)
	wantText(t, written(table, ""), "a  "+long)
}
