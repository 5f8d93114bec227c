package stored

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/record"
)

// recordDomain separates the hashes of records from all other hashes.
const recordDomain = "keyd record v1\n"

// HeadSize is the length of what lies before a record's body, its sum and its revision, in bytes.
const HeadSize = sha256.Size + 8

// Head is what tells one state of a record from every other.
type Head struct {
	Sum      chain.Hash
	Revision uint64
}

// Record is a record as an engine keeps it.
type Record struct {
	Head
	Body []byte // JSON
}

// NewRecord is the record of that name at a revision.
func NewRecord(name string, revision uint64, body []byte) Record {
	return Record{Head{recordSum(name, revision, body), revision}, body}
}

// Encode returns the bytes of a record.
func (r Record) Encode() []byte {
	return bytes.Join([][]byte{r.Sum[:], Number(r.Revision), r.Body}, nil)
}

// recordSum is SHA-256(domain ‖ len(name) ‖ name ‖ revision ‖ body), the numbers
// as 8 bytes big endian.
func recordSum(name string, revision uint64, body []byte) chain.Hash {
	h := sha256.New()
	h.Write([]byte(recordDomain))
	h.Write(Number(uint64(len(name))))
	h.Write([]byte(name))
	h.Write(Number(revision))
	h.Write(body)
	return chain.Hash(h.Sum(nil))
}

// ParseHead reads the sum and the revision of a record's value, and leaves its body alone.
func ParseHead(name string, value []byte) (Head, error) {
	if len(value) < HeadSize {
		return Head{}, fmt.Errorf("the record of %q is cut short", name)
	}
	return Head{
		Sum: chain.Hash(value[:sha256.Size]), Revision: binary.BigEndian.Uint64(value[sha256.Size:HeadSize]),
	}, nil
}

// ParseRecord splits a record's value and checks its sum.
func ParseRecord(name string, value []byte) (r Record, err error) {
	if r.Head, err = ParseHead(name, value); err != nil {
		return r, err
	}
	r.Body = bytes.Clone(value[HeadSize:])
	if recordSum(name, r.Revision, r.Body) != r.Sum {
		return Record{}, fmt.Errorf("the record of %q does not match its checksum", name)
	}
	return r, nil
}

// Number is the encoding of a number: 8 bytes, big endian.
func Number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// IsVault recognises the record of a vault by its name, a URL: no key's name has a colon.
func IsVault(name string) bool { return strings.HasPrefix(name, "https://") }

// IsKey recognises the record of a key by its name.
func IsKey(name string) bool { return !IsVault(name) && name != record.SettingsName }
