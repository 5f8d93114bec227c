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

// The domains that keep the hashes apart from each other and from those of a
// later form.
const (
	chainDomain  = "keyd audit chain v2\n"
	oldDomain    = "keyd audit chain v1\n"
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
	// Body is the entry's content as it was hashed: JSON.
	Body []byte `json:"-"`
}

// ParseBody reads an entry's content.
func ParseBody(body []byte) (e key.Entry, record string, err error) {
	var l link
	if err := json.Unmarshal(body, &l); err != nil {
		return e, "", fmt.Errorf("the entry cannot be read: %w", err)
	}
	return l.Entry, l.Record, nil
}

// link is what an entry's hash covers besides its place. It is encoded by
// encoding/json in the order of the fields, with sorted map keys and times in
// UTC, and stored as it was hashed, so checking the chain encodes nothing anew.
type link struct {
	key.Entry
	Record string `json:"record,omitempty"`
}

// BodySum is what an entry's hash covers of its content: SHA-256 of it.
func BodySum(body []byte) Hash { return sha256.Sum256(body) }

// LinkHash is an entry's hash: SHA-256(domain ‖ prev ‖ seq ‖ len(name) ‖ name ‖
// BodySum), the numbers as 8 bytes big endian; name is that of the entry's key. It
// covers the content by its sum, so that an export may leave the content out, and
// still be linked and show of which key it was.
func LinkHash(prev Hash, seq uint64, name string, sum Hash) Hash {
	h := sha256.New()
	h.Write([]byte(chainDomain))
	h.Write(prev[:])
	h.Write(number(seq))
	h.Write(number(uint64(len(name))))
	h.Write([]byte(name))
	h.Write(sum[:])
	return Hash(h.Sum(nil))
}

// Links reports whether hash is that of an entry of this key with this content.
// Entries of keyd's first form are hashed over the content itself.
func Links(prev Hash, seq uint64, name string, body []byte, hash Hash) bool {
	return hash == LinkHash(prev, seq, name, BodySum(body)) || hash == oldHash(prev, seq, body)
}

// BySum reports whether the entry's hash covers its content by BodySum alone.
func (c Chained) BySum() bool { return c.Hash == LinkHash(c.Prev, c.Seq, c.Key, BodySum(c.Body)) }

// oldHash is SHA-256(domain ‖ prev ‖ seq ‖ len(body) ‖ body).
func oldHash(prev Hash, seq uint64, body []byte) Hash {
	h := sha256.New()
	h.Write([]byte(oldDomain))
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

// parseChained splits an audit value; it does not check the hash.
func parseChained(seqKey, value []byte) (c Chained, err error) {
	if len(seqKey) != 8 {
		return c, errors.New("an audit entry has no sequence number")
	}
	c.Seq = binary.BigEndian.Uint64(seqKey)
	if len(value) < 2*sha256.Size {
		return c, errors.New("the entry is cut short")
	}
	c.Prev = Hash(value[:sha256.Size])
	c.Hash = Hash(value[sha256.Size : 2*sha256.Size])
	c.Body = bytes.Clone(value[2*sha256.Size:])
	c.Entry, c.Record, err = ParseBody(c.Body)
	return c, err
}
