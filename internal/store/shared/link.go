package shared

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// part is a record that a write replaces, with its entries, or entries alone.
type part struct {
	change   *change // nil: entries alone
	entries  []chain.Entry
	size     int    // of the entries, nearly
	revision uint64 // of the record when it is saved
}

// change is a record to save.
type change struct {
	name     string
	revision uint64 // at which it was loaded
	body     []byte
}

// saving is the part that saves a record.
func (s *Store) saving(name string, schema int, revision uint64, rec any, entries []chain.Entry) (part, error) {
	switch {
	case schema != record.SchemaVersion:
		return part{}, fmt.Errorf("record of %s: schema %d cannot be saved, only %d", name, schema,
			record.SchemaVersion)
	case len(entries) == 0:
		return part{}, fmt.Errorf("record of %s: a change without an audit entry", name)
	}
	for _, e := range entries {
		if e.Key != "" && e.Key != name {
			return part{}, fmt.Errorf("record of %s: an audit entry of %s cannot go with it", name, e.Key)
		}
	}
	body, err := json.Marshal(rec)
	if err != nil {
		return part{}, fmt.Errorf("encode the record of %s: %w", name, err)
	}
	p := s.noting(name, entries)
	p.change = &change{name, revision, body}
	return p, nil
}

// noting is the part that appends entries. Those without a name or a time get this name and the present time.
func (s *Store) noting(name string, entries []chain.Entry) part {
	p := part{entries: make([]chain.Entry, len(entries))}
	for i, e := range entries {
		if e.Key == "" {
			e.Key = name
		}
		if e.Time.IsZero() {
			e.Time = s.now()
		}
		p.entries[i] = e
		p.size += 256 + len(e.Key) + len(e.Actor)
		for name, value := range e.Fields {
			p.size += 8 + len(name) + len(value)
		}
	}
	return p
}

// link makes one change of writes: it gives each entry its place after the end of the chain, as far as that is known,
// and each record its revision. It leaves out what is refused, and says why.
func (s *Store) link(group []*pending) (c stored.Change, refused map[*pending]error, err error) {
	l := linker{state: s.known.state(names(group))}
	l.change.Tip = l.tip
	refused = map[*pending]error{}
	for _, p := range group {
		if why := l.refuse(p); why != nil {
			refused[p] = why
			continue
		}
		if err := l.add(p); err != nil {
			return c, nil, err
		}
	}
	return l.change, refused, nil
}

func names(group []*pending) (names []string) {
	for _, p := range group {
		for _, part := range p.parts {
			if part.change != nil {
				names = append(names, part.change.name)
			}
		}
	}
	return names
}

// linker builds a change.
type linker struct {
	state
	change stored.Change
}

// refuse says why a write cannot be made after those before it.
func (l *linker) refuse(p *pending) error {
	for _, part := range p.parts {
		c := part.change
		if c == nil {
			continue
		}
		if had := l.heads[c.name]; had.Revision != c.revision {
			return &stored.ConflictError{Key: c.name, Had: c.revision, Stored: had.Revision}
		}
		if other, ok := l.names[strings.ToLower(c.name)]; ok && other != c.name {
			return &key.CaseError{Name: c.name, Record: other}
		}
	}
	return nil
}

// add links one write.
func (l *linker) add(p *pending) error {
	if p.epoch != nil {
		l.change.Epoch = p.epoch
	}
	for i := range p.parts {
		part, sum := &p.parts[i], ""
		if c := part.change; c != nil {
			r := stored.NewRecord(c.name, l.tip.Seq+uint64(len(part.entries)), c.body)
			l.change.Records = append(l.change.Records,
				stored.Changed{Name: c.name, Was: l.heads[c.name], Value: r.Encode()})
			l.heads[c.name], l.names[strings.ToLower(c.name)] = r.Head, c.name
			part.revision, sum = r.Revision, r.Sum.String()
		}
		for n, e := range part.entries {
			covers := ""
			if n == len(part.entries)-1 {
				covers = sum
			}
			linked, err := chain.Append(l.tip.Seq, l.tip.Hash, e, covers)
			if err != nil {
				return err
			}
			l.change.Entries = append(l.change.Entries, linked)
			l.tip = stored.Tip{Seq: linked.Seq, Hash: linked.Hash}
		}
	}
	return nil
}
