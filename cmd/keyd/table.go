package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// style colours text, or does not.
type style struct{ colour bool }

func (s style) paint(code, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) good(text string) string { return s.paint("32", text) }
func (s style) warn(text string) string { return s.paint("33", text) }
func (s style) bad(text string) string  { return s.paint("31", text) }
func (s style) bold(text string) string { return s.paint("1", text) }

// cell is text in a table, and how to colour it.
type cell struct {
	text  string
	paint func(string) string
}

// plain makes a row of uncoloured cells.
func plain(texts ...string) []cell {
	row := make([]cell, len(texts))
	for i, t := range texts {
		row[i] = cell{text: t}
	}
	return row
}

// table is rows in aligned columns.
type table struct{ rows [][]cell }

func (t *table) add(row ...cell) { t.rows = append(t.rows, row) }

func (t *table) write(w io.Writer, indent string) {
	widths := map[int]int{}
	for _, row := range t.rows {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(oneLine(c.text)))
		}
	}
	for _, row := range t.rows {
		var line strings.Builder
		gap := ""
		for i, c := range row {
			text := oneLine(c.text)
			painted := text
			if c.paint != nil {
				painted = c.paint(text)
			}
			line.WriteString(gap + painted)
			gap = strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text)+2)
		}
		fmt.Fprintln(w, strings.TrimRight(indent+line.String(), " "))
	}
}
