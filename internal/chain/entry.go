package chain

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Entry is one event. A store numbers and links it.
type Entry struct {
	Time   time.Time         `json:"time"` // UTC
	Key    string            `json:"key"`  // "" of what concerns no single key
	Event  Event             `json:"event"`
	Actor  string            `json:"actor"` // "keyd", "schedule", or "uid N (name), login NAME"
	Fields map[string]string `json:"fields,omitempty"`
}

// Linked is an entry with its place in the chain.
type Linked struct {
	Seq uint64 `json:"seq"` // from 1, without gaps
	Entry
	// Record is the hash of the record that was saved with this entry; "" if the entry saved none. If a change has
	// several entries, the last one has it.
	Record string `json:"record,omitempty"`
	Prev   Hash   `json:"prev"` // the hash of the entry before it; zero for the first
	Hash   Hash   `json:"hash"`
	// Body is the entry's content as it was hashed, in JSON.
	Body []byte `json:"-"`
}

// body is what an entry's hash covers besides its place. encoding/json encodes it in the order of the fields, with
// sorted map keys and times in UTC. The store keeps the hashed bytes, so checking the chain encodes nothing again.
type body struct {
	Entry
	Record string `json:"record,omitempty"`
}

// Append links an entry after the one with number seq and hash prev (0 and zero: the chain is empty).
func Append(seq uint64, prev Hash, e Entry, record string) (Linked, error) {
	e = e.legible()
	text, err := json.Marshal(body{e, record})
	if err != nil {
		return Linked{}, fmt.Errorf("encode an audit entry: %w", err)
	}
	hash := LinkHash(prev, seq+1, e.Key, BodySum(text))
	return Linked{Seq: seq + 1, Entry: e, Record: record, Prev: prev, Hash: hash, Body: text}, nil
}

// legible is the entry as it reads back: in UTC, and in valid UTF-8.
func (e Entry) legible() Entry {
	e.Time = e.Time.UTC()
	e.Key, e.Event, e.Actor = utf8(e.Key), Event(utf8(string(e.Event))), utf8(e.Actor)
	fields := make(map[string]string, len(e.Fields))
	for name, value := range e.Fields {
		fields[utf8(name)] = utf8(value)
	}
	if e.Fields != nil {
		e.Fields = fields
	}
	return e
}

// utf8 replaces bytes that are not UTF-8, as JSON does.
func utf8(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// errReadTwoWays says that text is JSON, but not as keyd writes it: a name twice, in another case or unknown, for
// example. Two readers may read two things in it.
var errReadTwoWays = errors.New("keyd does not write it like this, and two programs may read it differently")

// ParseBody reads an entry's content, and accepts it only in the very bytes that Append writes.
func ParseBody(text []byte) (e Entry, record string, err error) {
	var b body
	if err := json.Unmarshal(text, &b); err != nil {
		return e, "", fmt.Errorf("the entry cannot be read: %w", err)
	}
	again, err := json.Marshal(body{b.legible(), b.Record})
	if err == nil && !bytes.Equal(again, text) {
		err = errReadTwoWays
	}
	if err != nil {
		return e, "", fmt.Errorf("the entry cannot be read: %w", err)
	}
	return b.Entry, b.Record, nil
}
