package bolt

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/keyd-project/keyd/internal/chain"
)

// recordDomain separates the hashes of records from all other hashes.
const recordDomain = "keyd record v1\n"

// recordHead is the length of what lies before a record's body: its sum and its revision.
const recordHead = sha256.Size + 8

// recordSum is SHA-256(domain ‖ len(name) ‖ name ‖ revision ‖ body), the numbers
// as 8 bytes big endian.
func recordSum(name string, revision uint64, body []byte) chain.Hash {
	h := sha256.New()
	h.Write([]byte(recordDomain))
	h.Write(number(uint64(len(name))))
	h.Write([]byte(name))
	h.Write(number(revision))
	h.Write(body)
	return chain.Hash(h.Sum(nil))
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// stored is a record as the file holds it.
type stored struct {
	sum      chain.Hash
	revision uint64
	body     []byte
}

func (r stored) encode() []byte {
	return bytes.Join([][]byte{r.sum[:], number(r.revision), r.body}, nil)
}

func newStored(name string, revision uint64, body []byte) stored {
	return stored{sum: recordSum(name, revision, body), revision: revision, body: body}
}

// parseHead reads the sum and the revision of a record's value, and leaves its body alone.
func parseHead(name string, value []byte) (stored, error) {
	if len(value) < recordHead {
		return stored{}, fmt.Errorf("the record of %q is cut short", name)
	}
	return stored{
		sum: chain.Hash(value[:sha256.Size]), revision: binary.BigEndian.Uint64(value[sha256.Size:recordHead]),
	}, nil
}

// parseStored splits a record's value and checks its sum.
func parseStored(name string, value []byte) (stored, error) {
	r, err := parseHead(name, value)
	if err != nil {
		return r, err
	}
	r.body = bytes.Clone(value[recordHead:])
	if recordSum(name, r.revision, r.body) != r.sum {
		return stored{}, fmt.Errorf("the record of %q does not match its checksum", name)
	}
	return r, nil
}

func encodeLinked(l chain.Linked) []byte {
	return bytes.Join([][]byte{l.Prev[:], l.Hash[:], l.Body}, nil)
}

// parseLinked splits an audit value. It does not check the hash.
func parseLinked(seqKey, value []byte) (l chain.Linked, err error) {
	if len(seqKey) != 8 {
		return l, errors.New("an audit entry has no sequence number")
	}
	l.Seq = binary.BigEndian.Uint64(seqKey)
	if len(value) < 2*sha256.Size {
		return l, errors.New("the entry is cut short")
	}
	l.Prev = chain.Hash(value[:sha256.Size])
	l.Hash = chain.Hash(value[sha256.Size : 2*sha256.Size])
	l.Body = bytes.Clone(value[2*sha256.Size:])
	l.Entry, l.Record, err = chain.ParseBody(l.Body)
	return l, err
}
