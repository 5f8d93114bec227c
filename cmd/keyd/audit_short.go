package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/control"
)

// told are the fields of an entry that its one line on a terminal has, in this order, each with the word before it.
var told = []struct{ field, word string }{
	{"generation", "generation "}, {"vault", ""}, {"version", "version "}, {"reason", ""}, {"outcome", ""},
}

// writeShortEntry writes an entry as one line of a terminal: the rest of it is cut off.
func writeShortEntry(w io.Writer, s style, e control.AuditEntry) error {
	parts := []string{string(e.Event), "by " + e.Actor}
	for _, t := range told {
		value := e.Fields[t.field]
		switch {
		case value == "":
		case t.field == "vault":
			parts = append(parts, hostLabel(value))
		default:
			parts = append(parts, t.word+value)
		}
	}
	head := fmt.Sprintf("%6d  %s  ", e.Seq, e.Time.UTC().Format(time.RFC3339))
	line := head + fmt.Sprintf("%-16s", hostLabel(cmp.Or(e.Key, "–"))) + "  " + strings.Join(parts, "  ")
	_, err := fmt.Fprintln(w, cut(oneLine(line), s.width))
	return err
}

// hostLabel is the first label of a vault's URL: entries of the audit chain have the URL.
func hostLabel(url string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(url, "https://"), ".")
	return name
}
