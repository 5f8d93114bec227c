package audit

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
)

// Format is the file format of an export.
type Format string

// The formats. Only JSON can be verified.
const (
	JSON Format = "json" // one JSON value on each line
	CSV  Format = "csv"  // for spreadsheets (RFC 4180)
)

// Request selects the entries of an export: the first to the last within the times, of
// one key or of all.
type Request struct {
	Since  time.Time // zero: from the chain's beginning
	Until  time.Time // zero: to its head
	Key    string    // in any case; "": all
	Format Format
}

// UnknownKeyError says that the chain has no entry of the requested key.
type UnknownKeyError struct{ Key string }

func (e *UnknownKeyError) Error() string {
	return fmt.Sprintf("the audit has no entry of a key %s", e.Key)
}

// formatVersion is the version of the JSON lines.
const formatVersion = 1

// The lines of an export, in their order: one header, one line for each entry, one end.
// For an entry that was not requested, the line has only the key and the content's sum.
// The chain's hashes cover both, so the entries around it stay linked, and an export of
// one key proves that no entry of that key is missing.
type (
	headerLine struct {
		Export   int       `json:"keyd_audit_export"` // formatVersion
		Instance string    `json:"instance"`
		Exported time.Time `json:"exported"`
		Since    time.Time `json:"since,omitzero"`
		Until    time.Time `json:"until,omitzero"`
		Key      string    `json:"key,omitempty"`
		// First is the number of the first entry, 0 if there is none, and Prev is the hash of the entry before it.
		First uint64     `json:"first"`
		Prev  chain.Hash `json:"prev"`
	}
	entryLine struct {
		Seq   uint64          `json:"seq"`
		Hash  chain.Hash      `json:"hash"`
		Entry json.RawMessage `json:"entry,omitempty"` // the content, as it was hashed
		Key   string          `json:"key,omitempty"`   // of an entry whose content is left out
		Sum   *chain.Hash     `json:"sum,omitempty"`   // SHA-256 of that content
	}
	endLine struct {
		End   bool       `json:"end"`
		Lines uint64     `json:"lines"` // of entries
		Sum   chain.Hash `json:"sum"`   // SHA-256 of every byte before this line
	}
)

// Export writes the requested entries. JSON continues after the last of them until a
// checkpoint covers it, or to the head. The header notes now. Errors: *UnknownKeyError,
// and those of the chain and of w.
func Export(ctx context.Context, src Reader, r Request, now time.Time, w io.Writer) error {
	span, err := findSpan(ctx, src, r)
	if err != nil {
		return err
	}
	if r.Key != "" {
		r.Key = span.key
	}
	buffered := bufio.NewWriter(w)
	switch r.Format {
	case JSON:
		err = exportJSON(ctx, src, r, span, now, buffered)
	case CSV:
		err = exportCSV(ctx, src, r, span, buffered)
	default:
		err = fmt.Errorf("there is no export format %q: json or csv", r.Format)
	}
	return errors.Join(err, buffered.Flush())
}

// span is the part of the chain that an export covers: the requested entries, and the
// last entry needed to verify them.
type span struct {
	first, last, end uint64
	instance         string // as the chain names it
	key              string // as entries spell it; "": no entry is of the requested key
}

func findSpan(ctx context.Context, src Reader, r Request) (s span, err error) {
	err = src.Audit(ctx, 0, func(c chain.Linked) error {
		if !c.Time.Before(r.Since) && (r.Until.IsZero() || !c.Time.After(r.Until)) {
			if s.first == 0 {
				s.first = c.Seq
			}
			s.last, s.end = c.Seq, 0
		}
		if cp, ok, err := parseSigned(c.Entry); ok && err == nil && s.end == 0 && s.last != 0 && cp.Seq >= s.last {
			s.end = c.Seq
		}
		if name := c.Fields["instance"]; name != "" && c.Key == "" {
			s.instance = name // of a daemon's start, or of a checkpoint
		}
		if c.Key == r.Key || s.key == "" && key.SameName(c.Key, r.Key) {
			s.key = c.Key
		}
		return nil
	})
	if err == nil && r.Key != "" && s.key == "" {
		return s, &UnknownKeyError{r.Key}
	}
	if err == nil && s.last != 0 && s.end == 0 {
		s.end, _, err = src.Head(ctx)
	}
	return s, err
}

// shows reports whether an export shows the entry's content.
func (s span) shows(r Request, c chain.Linked) bool {
	asked := c.Seq >= s.first && c.Seq <= s.last && (r.Key == "" || c.Key == r.Key)
	return asked || ours(c.Entry)
}

var errStop = errors.New("the end of the export")

func (s span) each(ctx context.Context, src Reader, fn func(chain.Linked) error) error {
	if s.first == 0 {
		return nil
	}
	err := src.Audit(ctx, s.first, func(c chain.Linked) error {
		if c.Seq > s.end {
			return errStop
		}
		return fn(c)
	})
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

func exportJSON(ctx context.Context, src Reader, r Request, s span, now time.Time, w io.Writer) error {
	out := &lineWriter{w: w, sum: sha256.New()}
	head := headerLine{Export: formatVersion, Instance: s.instance, Exported: now.UTC(), Since: utc(r.Since),
		Until: utc(r.Until), Key: r.Key}
	begun := false
	begin := func(c chain.Linked) error {
		begun = true
		head.First, head.Prev = c.Seq, c.Prev
		return out.write(head)
	}
	err := s.each(ctx, src, func(c chain.Linked) error {
		if !begun {
			if err := begin(c); err != nil {
				return err
			}
		}
		out.lines++
		line := entryLine{Seq: c.Seq, Hash: c.Hash}
		if sum := chain.BodySum(c.Body); s.shows(r, c) {
			line.Entry = c.Body
		} else {
			line.Key, line.Sum = c.Key, &sum
		}
		return out.write(line)
	})
	if err == nil && !begun {
		err = begin(chain.Linked{})
	}
	if err != nil {
		return err
	}
	return out.write(endLine{End: true, Lines: out.lines, Sum: chain.Hash(out.sum.Sum(nil))})
}

func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}

// lineWriter writes JSON lines and computes their checksum.
type lineWriter struct {
	w     io.Writer
	sum   hash.Hash
	lines uint64
}

func (l *lineWriter) write(v any) error {
	b, err := encodeLine(v)
	if err != nil {
		return err
	}
	l.sum.Write(b)
	_, err = l.w.Write(b)
	return err
}

func encodeLine(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode a line of the export: %w", err)
	}
	return append(b, '\n'), nil
}
