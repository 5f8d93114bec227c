package audit

import (
	"fmt"
	"slices"

	"github.com/keyd-project/keyd/internal/key"
)

// checkpoint checks one signature, that it follows the one before, and that the file's chain is the one signed. err
// says why the checkpoint cannot be read.
func (c *checker) checkpoint(at uint64, s signed, err error) {
	if err != nil {
		c.v.problem("line %d: the checkpoint of entry %d cannot be read: %v", c.number, at, err)
		return
	}
	if wrong := c.lineage.next(s); wrong != "" {
		c.v.problem("line %d: the checkpoint in entry %d is out of line: %s", c.number, at, wrong)
	}
	seen := c.keySeen(s.by)
	by, given := c.keys[s.by]
	if s.Break != nil {
		c.brokenAt(at, s, given)
	}
	if !given {
		seen.Checkpoints++
		return
	}
	if !s.Verify(by) {
		c.v.problem("line %d: the signature in entry %d is not by the audit key %s: it was forged or changed",
			c.number, at, s.by)
		return
	}
	if s.Instance != c.v.Instance {
		c.v.problem("line %d: the checkpoint in entry %d is of instance %s, and the file says %s",
			c.number, at, s.Instance, c.v.Instance)
		return
	}
	seen.Checkpoints++
	if s.Seq >= at {
		c.v.problem("line %d: entry %d signs entry %d, which did not exist yet: entries were removed",
			c.number, at, s.Seq)
		return
	}
	c.cover(s, at)
}

// brokenAt takes a break. Whoever verifies must know of it: it is a problem unless they say so.
func (c *checker) brokenAt(at uint64, s signed, given bool) {
	b := BreakSeen{ID: s.BreakID(), Entry: at, New: s.Mark(), At: s.Time, Reason: s.Break.Reason}
	if s.Break.Seq != 0 {
		b.Old = key.Checkpoint{Seq: s.Break.Seq, Head: s.Break.Head}.Mark()
	}
	b.Accepted = slices.Contains(c.expect.Breaks, b.ID)
	c.v.Breaks = append(c.v.Breaks, b)
	switch {
	case !given:
		c.v.problem("line %d: entry %d is a break of the chain, by an audit key that is not given: %s", c.number, at,
			s.by)
	case !b.Accepted:
		c.v.problem("line %d: from entry %d on, the chain does not continue what the audit key signed before: root "+
			"accepted that at %s, because: %q. If you know of it and agree: --accept-break %s", c.number, s.Seq,
			s.Time.UTC().Format("2006-01-02 15:04:05Z"), s.Break.Reason, b.ID)
	}
}

// cover records how far a valid signature reaches, if it belongs to this file's part of
// the chain.
func (c *checker) cover(s signed, at uint64) {
	if s.Seq < c.v.First {
		return // it covers only entries before the file's first one
	}
	if got := c.hashes[min(s.Seq-c.v.First, uint64(len(c.hashes)-1))]; got.String() != string(s.Head) {
		c.v.problem(
			"line %d: the head that entry %d signs differs from entry %d of this file: the chain was rewritten",
			c.number,
			at,
			s.Seq,
		)
		return
	}
	c.signed[s.Seq] = true
	if s.Seq >= c.v.SignedTo {
		c.v.SignedTo, c.v.SignedAt, c.v.SignedBy = s.Seq, s.Time, s.by
	}
}

func (c *checker) keySeen(print key.Fingerprint) *KeySeen {
	for i := range c.v.Keys {
		if c.v.Keys[i].Fingerprint == print {
			return &c.v.Keys[i]
		}
	}
	c.v.Keys = append(c.v.Keys, KeySeen{Fingerprint: print})
	return &c.v.Keys[len(c.v.Keys)-1]
}

// conclude judges the file as a whole.
func (c *checker) conclude() {
	if !c.ended {
		c.v.problem("the file was cut short: its last line is missing")
	}
	if n := len(c.hashes); n > 0 {
		c.v.Last, c.v.Head = c.v.First+uint64(n)-1, c.prev
	}
	if c.v.SignedTo == 0 {
		c.v.problem("no entry of the file is signed by a given key")
	}
	for _, m := range c.expect.Marks {
		mark := fmt.Sprintf("%d:%s", m.Seq, m.Head)
		switch {
		case m.Seq < c.v.First:
			c.v.problem("%s: the file begins only with entry %d: export from an earlier time", mark, c.v.First)
		case m.Seq > c.v.Last:
			c.v.problem(
				"%s: the chain was signed to entry %d, and the file ends with %d: its end was cut off, or it "+
					"is older or exported with --until",
				mark,
				m.Seq,
				c.v.Last,
			)
		case c.hashes[m.Seq-c.v.First].String() != string(m.Head):
			c.v.problem("%s: entry %d has another hash here: the chain was rewritten", mark, m.Seq)
		case !c.signed[m.Seq]:
			c.v.problem("%s: the file has no checkpoint of entry %d by a given key: its end was cut off",
				mark, m.Seq)
		default:
			c.v.Expected = append(c.v.Expected, mark)
		}
	}
	for _, id := range c.expect.Breaks {
		if !slices.ContainsFunc(c.v.Breaks, func(b BreakSeen) bool { return b.ID == id }) {
			c.v.problem("the file has no break %s", id)
		}
	}
}
