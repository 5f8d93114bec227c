package chain

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// domain separates the chain's hashes from all others, and from those of a later form.
const domain = "keyd audit chain v2\n"

// Hash is a SHA-256 sum. The zero Hash stands before the first entry.
type Hash [sha256.Size]byte

// String is "sha256:" and 64 hex digits.
func (h Hash) String() string { return "sha256:" + hex.EncodeToString(h[:]) }

// MarshalText returns the same form as String.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText accepts only String's form.
func (h *Hash) UnmarshalText(text []byte) error {
	digits, ok := strings.CutPrefix(string(text), "sha256:")
	b, err := hex.DecodeString(digits)
	if !ok || err != nil || len(b) != len(h) {
		return fmt.Errorf("%q is not a hash: sha256: and 64 hex digits", text)
	}
	*h = Hash(b)
	return nil
}

// BodySum is the part of an entry's hash that covers its content: its SHA-256.
func BodySum(body []byte) Hash { return sha256.Sum256(body) }

// LinkHash is an entry's hash: SHA-256(domain ‖ prev ‖ seq ‖ len(name) ‖ name ‖ sum), with numbers as 8 bytes big
// endian; name is the name of the entry's key, and sum is BodySum of its content.
func LinkHash(prev Hash, seq uint64, name string, sum Hash) Hash {
	h := sha256.New()
	h.Write([]byte(domain))
	h.Write(prev[:])
	h.Write(number(seq))
	h.Write(number(uint64(len(name))))
	h.Write([]byte(name))
	h.Write(sum[:])
	return Hash(h.Sum(nil))
}

// Links reports whether hash belongs to an entry of this key with this content.
func Links(prev Hash, seq uint64, name string, body []byte, hash Hash) bool {
	return hash == LinkHash(prev, seq, name, BodySum(body))
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
