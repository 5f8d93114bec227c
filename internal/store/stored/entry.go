package stored

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/keyd-project/keyd/internal/chain"
)

// EncodeEntry returns the bytes of an audit entry; its number is its name.
func EncodeEntry(l chain.Linked) []byte {
	return bytes.Join([][]byte{l.Prev[:], l.Hash[:], l.Body}, nil)
}

// ParseEntry splits an audit value; seq is the number as 8 bytes, big endian. It does not check the hash.
func ParseEntry(seq, value []byte) (l chain.Linked, err error) {
	if len(seq) != 8 {
		return l, errors.New("an audit entry has no sequence number")
	}
	l.Seq = binary.BigEndian.Uint64(seq)
	if len(value) < 2*sha256.Size {
		return l, errors.New("the entry is cut short")
	}
	l.Prev = chain.Hash(value[:sha256.Size])
	l.Hash = chain.Hash(value[sha256.Size : 2*sha256.Size])
	l.Body = bytes.Clone(value[2*sha256.Size:])
	l.Entry, l.Record, err = chain.ParseBody(l.Body)
	return l, err
}
