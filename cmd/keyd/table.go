package main

import (
	"fmt"
	"io"
	"strings"
)

// cell is text in a table, and its colour.
type cell struct {
	text  string
	paint func(string) string
}

func (c cell) painted(text string) string {
	if c.paint == nil {
		return text
	}
	return c.paint(text)
}

// plain makes a row of uncoloured cells.
func plain(texts ...string) []cell {
	row := make([]cell, len(texts))
	for i, t := range texts {
		row[i] = cell{text: t}
	}
	return row
}

// table is rows in aligned columns. If a row has fewer cells than others, its last cell spans the missing columns.
type table struct {
	// width is how many columns a line may have; 0: any number. The table never cuts text: it wraps the last cells,
	// and if that is not enough, it puts the cells of a titled table below each other.
	width  int
	titled bool // the first row has the names of the columns
	rows   [][]cell
}

const (
	gap      = 2  // columns between two cells
	leastEnd = 20 // enough columns for a last cell of several lines
)

func (t *table) add(row ...cell) {
	for i := range row {
		row[i].text = oneLine(row[i].text)
	}
	t.rows = append(t.rows, row)
}

// title adds the columns' names.
func (t *table) title(s style, names ...string) {
	row := plain(names...)
	for i := range row {
		row[i].paint = s.bold
	}
	t.titled = true
	t.add(row...)
}

func (t *table) write(w io.Writer, indent string) {
	starts, end, least := t.layout(len(indent))
	switch {
	case t.width == 0 || end <= t.width:
		t.aligned(w, indent, starts, 0)
	case least <= t.width:
		t.aligned(w, indent, starts, t.width)
	case t.titled:
		t.stacked(w, indent)
	default:
		t.hanging(w, indent, starts)
	}
}

// layout finds the column in which each cell starts, the end of the longest line, and the end that is enough if the
// last cells are wrapped.
func (t *table) layout(indent int) (starts []int, end, least int) {
	n := 0
	for _, row := range t.rows {
		n = max(n, len(row))
	}
	widths := make([]int, n)
	for _, row := range t.rows {
		for i, c := range row {
			if i == n-1 || i < len(row)-1 {
				widths[i] = max(widths[i], columns(c.text))
			}
		}
	}
	starts = make([]int, n)
	at := indent
	for i := range starts {
		starts[i] = at
		at += widths[i] + gap
	}
	for _, row := range t.rows {
		start, width := starts[len(row)-1], columns(row[len(row)-1].text)
		end = max(end, start+width)
		least = max(least, start+min(width, leastEnd))
	}
	return starts, end, least
}

// aligned writes each row on one line. With most, it wraps longer rows below the beginning of their last cell.
func (t *table) aligned(w io.Writer, indent string, starts []int, most int) {
	for _, row := range t.rows {
		last := len(row) - 1
		lines := []string{row[last].text}
		if most > 0 {
			lines = wrap(row[last].text, most-starts[last])
		}
		fmt.Fprintln(w, strings.TrimRight(indent+lead(row, starts)+row[last].painted(lines[0]), " "))
		for _, line := range lines[1:] {
			fmt.Fprintln(w, strings.Repeat(" ", starts[last])+row[last].painted(line))
		}
	}
}

// lead is all cells of a row but the last, padded to where the last one begins.
func lead(row []cell, starts []int) string {
	var b strings.Builder
	for i, c := range row[:len(row)-1] {
		b.WriteString(c.painted(c.text) + strings.Repeat(" ", starts[i+1]-starts[i]-columns(c.text)))
	}
	return b.String()
}

// hanging writes the last cell of each row on lines of its own.
func (t *table) hanging(w io.Writer, indent string, starts []int) {
	for _, row := range t.rows {
		if len(row) == 1 {
			fmt.Fprintln(w, indent+row[0].painted(strings.Join(wrap(row[0].text, t.width-len(indent)), "\n"+indent)))
			continue
		}
		if first := strings.TrimRight(lead(row, starts), " "); first != "" {
			fmt.Fprintln(w, indent+first)
		}
		last := row[len(row)-1]
		if last.text == "" {
			continue
		}
		for _, line := range wrap(last.text, t.width-len(indent)-2*gap) {
			fmt.Fprintln(w, indent+strings.Repeat(" ", 2*gap)+last.painted(line))
		}
	}
}

// stacked writes each row as a paragraph: its first cell, and below it the others with their names.
func (t *table) stacked(w io.Writer, indent string) {
	for _, row := range t.rows[1:] {
		if last := row[len(row)-1]; len(row) < len(t.rows[0]) { // the row continues the one before it
			for _, line := range wrap(last.text, t.width-len(indent)-gap) {
				fmt.Fprintln(w, indent+strings.Repeat(" ", gap)+last.painted(line))
			}
			continue
		}
		fmt.Fprintln(w, indent+row[0].painted(row[0].text))
		named := table{width: t.width}
		for i, c := range row[1:] {
			named.add(cell{text: strings.ToLower(t.rows[0][i+1].text)}, c)
		}
		named.write(w, indent+strings.Repeat(" ", gap))
	}
}
