package audit

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"io"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
)

// csvFields are the fields of entries that have a column of their own. The last column has the others, as JSON.
var csvFields = []string{"generation", "id", "fingerprint", "vault", "version", "kek", "kek_fingerprint", "reason"}

func exportCSV(ctx context.Context, src Reader, r Request, s span, w io.Writer) error {
	out := csv.NewWriter(w)
	head := append([]string{"seq", "time", "key", "event", "actor"}, csvFields...)
	if err := out.Write(append(head, "other", "hash")); err != nil {
		return err
	}
	err := s.each(ctx, src, func(c chain.Linked) error {
		if !s.shows(r, c) || c.Seq > s.last {
			return nil
		}
		row := []string{strconv.FormatUint(c.Seq, 10), c.Time.UTC().Format(time.RFC3339Nano), c.Key, string(c.Event),
			c.Actor}
		rest := maps.Clone(c.Fields)
		for _, name := range csvFields {
			row = append(row, rest[name])
			delete(rest, name)
		}
		other := ""
		if len(rest) > 0 {
			b, err := json.Marshal(rest)
			if err != nil {
				return err
			}
			other = string(b)
		}
		row = append(row, other, c.Hash.String())
		for i := range row {
			row[i] = harmless(row[i])
		}
		return out.Write(row)
	})
	out.Flush()
	if err != nil {
		return err
	}
	return out.Error()
}

// harmless puts an apostrophe before text that a spreadsheet would read as a formula
// (OWASP, "CSV Injection"). Reasons and errors come from outside.
func harmless(cell string) string {
	if trimmed := strings.TrimLeft(cell, " "); trimmed != "" &&
		strings.ContainsRune("=+-@\t\r\n＝＋－＠", []rune(trimmed)[0]) {
		return "'" + cell
	}
	return cell
}
