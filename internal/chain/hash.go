package chain

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// domain keeps the hashes of the chain apart from all others, and from those of a later form.
const domain = "keyd audit chain v2\n"

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

// BodySum is what an entry's hash covers of its content: SHA-256 of it.
func BodySum(body []byte) Hash { return sha256.Sum256(body) }

// LinkHash is an entry's hash: SHA-256(domain ‖ prev ‖ seq ‖ len(name) ‖ name ‖ sum), the numbers as 8 bytes big
// endian; name is that of the entry's key, and sum is BodySum of its content.
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

// Links reports whether hash is that of an entry of this key with this content.
func Links(prev Hash, seq uint64, name string, body []byte, hash Hash) bool {
	return hash == LinkHash(prev, seq, name, BodySum(body))
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
