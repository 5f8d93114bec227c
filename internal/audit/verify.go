package audit

import (
	"bufio"
	"bytes"
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

// Verdict is exactly what Verify established about an export.
type Verdict struct {
	Instance string    `json:"instance"`
	Exported time.Time `json:"exported"`
	Since    time.Time `json:"since,omitzero"`
	Until    time.Time `json:"until,omitzero"`
	Key      string    `json:"key,omitempty"`
	// The entries of the file, each linked to the one before it.
	First uint64     `json:"first"`
	Last  uint64     `json:"last"`
	Head  chain.Hash `json:"head"` // of the last
	Shown uint64     `json:"shown"`
	// LeftOut entries are linked, too, but their content is not in the file.
	LeftOut uint64 `json:"left_out"`
	// CompleteTo is the last entry up to which no entry of Key is left out; without a
	// Key, no entry at all. 0: the first one is left out.
	CompleteTo uint64    `json:"complete_to"`
	Keys       []KeySeen `json:"keys"`
	// SignedTo is the last entry covered by a verified signature; 0: none is.
	SignedTo uint64          `json:"signed_to"`
	SignedAt time.Time       `json:"signed_at,omitzero"`
	SignedBy key.Fingerprint `json:"signed_by,omitempty"`
	// Expected are the given marks that the file contains and a signature covers.
	Expected []string `json:"expected,omitzero"`
	// Breaks are the points from which the chain does not continue what the audit key signed before.
	Breaks   []BreakSeen `json:"breaks,omitzero"`
	Problems []string    `json:"problems,omitzero"` // at most 20
}

// BreakSeen is one break that root accepted on the HSM side.
type BreakSeen struct {
	ID       string    `json:"id"`
	Entry    uint64    `json:"entry"`
	Old      string    `json:"old,omitempty"` // the mark of what was signed before; "": the HSM side no longer knew it
	New      string    `json:"new"`           // the mark of what the chain continues from
	At       time.Time `json:"at"`
	Reason   string    `json:"reason"`
	Accepted bool      `json:"accepted"` // whoever verifies said so
}

// KeySeen is one audit key that signed checkpoints of the file.
type KeySeen struct {
	Fingerprint key.Fingerprint `json:"fingerprint"`
	Given       bool            `json:"given"`       // its signatures were checked
	Checkpoints int             `json:"checkpoints"` // valid ones, if it was given
}

// OK reports whether nothing is wrong and something is signed.
func (v Verdict) OK() bool { return len(v.Problems) == 0 }

const maxProblems = 20

func (v *Verdict) problem(format string, args ...any) {
	if len(v.Problems) < maxProblems {
		v.Problems = append(v.Problems, fmt.Sprintf(format, args...))
	}
}

// ErrNotAnExport says that the file is not an export that can be verified. The text
// says what it is.
var ErrNotAnExport = errors.New("keyd cannot verify this file")

// Mark is a point of the chain that is known from elsewhere: from a version's tag or
// the journal.
type Mark struct {
	Seq  uint64
	Head key.Fingerprint
}

// Expect is what whoever verifies an export knows from elsewhere.
type Expect struct {
	Marks  []Mark
	Breaks []string // IDs of breaks that are known and accepted
}

// maxLine is far more than the store lets an entry have.
const maxLine = 4 << 20

// Verify checks an export with the public keys alone. It returns an error if the file cannot be read as an export at
// all; the Verdict has what is wrong with an export.
func Verify(r io.Reader, keys []key.Material, e Expect) (Verdict, error) {
	c := checker{expect: e, keys: map[key.Fingerprint]key.Material{}, read: sha256.New()}
	for _, m := range keys {
		print := m.Fingerprint()
		if _, given := c.keys[print]; !given {
			c.keys[print] = m
			c.v.Keys = append(c.v.Keys, KeySeen{Fingerprint: print, Given: true})
		}
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	lines.Split(wholeLines)
	if err := c.header(lines); err != nil {
		return Verdict{}, err
	}
	for lines.Scan() {
		c.line(lines.Bytes())
	}
	if err := lines.Err(); err != nil {
		return c.v, fmt.Errorf("%w: %w", ErrNotAnExport, err)
	}
	c.conclude()
	return c.v, nil
}

// wholeLines is bufio.ScanLines with the line's end, which the sum covers.
func wholeLines(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i+1], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// checker walks through a file once.
type checker struct {
	v       Verdict
	expect  Expect
	lineage lineage // of the checkpoints
	keys    map[key.Fingerprint]key.Material
	read    hash.Hash // of the bytes so far
	prev    chain.Hash
	hashes  []chain.Hash // of the entries, from First on
	signed  map[uint64]bool
	number  int  // of the line
	gap     bool // an entry of the key was left out
	ended   bool
	lost    bool // the line before was unusable, so the next need not link to it
}

func (c *checker) header(lines *bufio.Scanner) error {
	if !lines.Scan() {
		return fmt.Errorf("%w: the file is empty, or its first line is too long", ErrNotAnExport)
	}
	var h headerLine
	err := strict(lines.Bytes(), &h)
	switch {
	case bytes.HasPrefix(lines.Bytes(), []byte("seq,time,")):
		return fmt.Errorf("%w: it is a CSV export, which is for reading; export the same with --format json",
			ErrNotAnExport)
	case err != nil || h.Export == 0:
		return fmt.Errorf("%w: its first line is not that of `keyd audit export --format json`", ErrNotAnExport)
	case h.Export != formatVersion:
		return fmt.Errorf("%w: it is an export of form %d, and this keyd knows form %d: verify it with a newer keyd",
			ErrNotAnExport, h.Export, formatVersion)
	}
	c.read.Write(lines.Bytes())
	c.number = 1
	c.prev, c.signed = h.Prev, map[uint64]bool{}
	c.lineage.known = h.First == 1
	c.v.Instance, c.v.Exported, c.v.Since, c.v.Until, c.v.Key, c.v.First = h.Instance, h.Exported, h.Since, h.Until,
		h.Key, h.First
	if h.First == 1 && h.Prev != (chain.Hash{}) {
		c.v.problem("line 1: the first entry of the chain claims to follow another one")
	}
	return nil
}

// line handles one line after the header.
func (c *checker) line(text []byte) {
	c.number++
	var entry entryLine
	var end endLine
	switch {
	case c.ended:
		c.v.problem("line %d: there is text after the end", c.number)
		return
	case strict(text, &end) == nil && end.End:
		c.end(end)
		return
	case strict(text, &entry) != nil || (entry.Entry == nil) == (entry.Sum == nil) ||
		entry.Sum == nil && entry.Key != "":
		c.v.problem("line %d: it is not a line of an export", c.number)
		c.lost = true
	default:
		c.entry(entry)
	}
	c.read.Write(text)
}

func (c *checker) end(e endLine) {
	c.ended = true
	if e.Lines != uint64(len(c.hashes)) {
		c.v.problem("line %d: the file was written with %d entries and now has %d", c.number, e.Lines, len(c.hashes))
	}
	if e.Sum != chain.Hash(c.read.Sum(nil)) {
		c.v.problem("line %d: the file was changed: its checksum differs", c.number)
	}
}

// entry links an entry to the one before it.
func (c *checker) entry(e entryLine) {
	want := c.v.First + uint64(len(c.hashes))
	if e.Seq != want {
		c.v.problem("line %d: entry %d is where entry %d should be: one was removed, added or moved",
			c.number, e.Seq, want)
	}
	var body chain.Entry
	var links bool
	if e.Sum != nil {
		links = e.Hash == chain.LinkHash(c.prev, e.Seq, e.Key, *e.Sum)
	} else {
		var err error
		if body, err = onlyReading(e.Entry); err != nil {
			c.v.problem("line %d: entry %d: %v", c.number, e.Seq, err)
		}
		links = chain.Links(c.prev, e.Seq, body.Key, e.Entry, e.Hash)
	}
	if !links && !c.lost {
		c.v.problem("line %d: entry %d does not follow the one before it: one of them was changed, added, removed "+
			"or moved", c.number, e.Seq)
	}
	c.prev, c.lost = e.Hash, false
	c.hashes = append(c.hashes, e.Hash)
	if e.Sum != nil {
		c.v.LeftOut++
		c.gap = c.gap || c.v.Key == "" || c.v.Key == e.Key
	} else {
		c.v.Shown++
	}
	if !c.gap {
		c.v.CompleteTo = e.Seq
	}
	if s, ok, err := parseSigned(body); ok {
		c.checkpoint(e.Seq, s, err)
	}
}

// strict decodes a line only if it is written exactly as Export writes it, so that no
// two readers can read one line differently.
func strict(text []byte, into any) error {
	if err := json.Unmarshal(text, into); err != nil {
		return err
	}
	again, err := encodeLine(into)
	if err == nil && !bytes.Equal(again, text) {
		err = errors.New("keyd does not write it like this")
	}
	return err
}
