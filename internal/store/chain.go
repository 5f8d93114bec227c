package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/keyd-project/keyd/internal/key"
)

// The domains that keep the two hashes apart from each other and from those of
// a later form.
const (
	chainDomain  = "keyd audit chain v1\n"
	recordDomain = "keyd record v1\n"
)

// Hash is a SHA-256 sum. The zero Hash stands before the first entry.
type Hash [sha256.Size]byte

// String is "sha256:" and 64 hex digits.
func (h Hash) String() string { return "sha256:" + hex.EncodeToString(h[:]) }

// MarshalText is String's form.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText accepts String's form only.
func (h *Hash) UnmarshalText(text []byte) error {
	digits, ok := strings.CutPrefix(string(text), "sha256:")
	b, err := hex.DecodeString(digits)
	if !ok || err != nil || len(b) != len(h) {
		return fmt.Errorf("%q is not a hash: sha256: and 64 hex digits", text)
	}
	*h = Hash(b)
	return nil
}

// Chained is one entry of the audit chain with its place in it.
type Chained struct {
	Seq uint64 `json:"seq"` // from 1, without gaps
	key.Entry
	// Record is the sum of the record that was saved with this entry; "" for
	// an entry that saved none. Of the entries of one change, the last has it.
	Record string `json:"record,omitempty"`
	Prev   Hash   `json:"prev"`
	Hash   Hash   `json:"hash"`
}

// link is what an entry's hash covers besides its place. It is encoded by
// encoding/json in the order of the fields, with sorted map keys and times in
// UTC, and stored as it was hashed, so checking the chain encodes nothing anew.
type link struct {
	key.Entry
	Record string `json:"record,omitempty"`
}

// chainHash is SHA-256(domain ‖ prev ‖ seq ‖ len(body) ‖ body), the two numbers
// as 8 bytes big endian.
func chainHash(prev Hash, seq uint64, body []byte) Hash {
	h := sha256.New()
	h.Write([]byte(chainDomain))
	h.Write(prev[:])
	h.Write(number(seq))
	h.Write(number(uint64(len(body))))
	h.Write(body)
	return Hash(h.Sum(nil))
}

// recordSum is SHA-256(domain ‖ len(name) ‖ name ‖ revision ‖ body), the numbers
// as 8 bytes big endian.
func recordSum(name string, revision uint64, body []byte) Hash {
	h := sha256.New()
	h.Write([]byte(recordDomain))
	h.Write(number(uint64(len(name))))
	h.Write([]byte(name))
	h.Write(number(revision))
	h.Write(body)
	return Hash(h.Sum(nil))
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// stored is a record as it lies in the file.
type stored struct {
	sum      Hash
	revision uint64
	body     []byte
}

func (r stored) encode() []byte {
	return bytes.Join([][]byte{r.sum[:], number(r.revision), r.body}, nil)
}

func newStored(name string, revision uint64, body []byte) stored {
	return stored{sum: recordSum(name, revision, body), revision: revision, body: body}
}

// parseStored splits a record's value and checks its sum.
func parseStored(name string, value []byte) (stored, error) {
	const head = sha256.Size + 8
	if len(value) < head {
		return stored{}, fmt.Errorf("the record of %q is cut short", name)
	}
	r := stored{
		sum:      Hash(value[:sha256.Size]),
		revision: binary.BigEndian.Uint64(value[sha256.Size:head]),
		body:     bytes.Clone(value[head:]),
	}
	if recordSum(name, r.revision, r.body) != r.sum {
		return stored{}, fmt.Errorf("the record of %q does not match its checksum", name)
	}
	return r, nil
}

func encodeChained(prev, hash Hash, body []byte) []byte {
	return bytes.Join([][]byte{prev[:], hash[:], body}, nil)
}

// parseChained splits an audit value; it does not check the hash. body is what
// the hash covers.
func parseChained(seqKey, value []byte) (c Chained, body []byte, err error) {
	if len(seqKey) != 8 {
		return c, nil, errors.New("an audit entry has no sequence number")
	}
	c.Seq = binary.BigEndian.Uint64(seqKey)
	if len(value) < 2*sha256.Size {
		return c, nil, errors.New("the entry is cut short")
	}
	c.Prev = Hash(value[:sha256.Size])
	c.Hash = Hash(value[sha256.Size : 2*sha256.Size])
	body = bytes.Clone(value[2*sha256.Size:])
	var l link
	if err := json.Unmarshal(body, &l); err != nil {
		return c, body, fmt.Errorf("the entry cannot be read: %w", err)
	}
	c.Entry, c.Record = l.Entry, l.Record
	return c, body, nil
}
