package stored

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"github.com/keyd-project/keyd/internal/chain"
)

// MaxLedger is the size of the largest ledger that a store takes, in bytes (4 MiB).
const MaxLedger = 4 << 20

// maxLedgerName is the length of the longest name of a ledger, in bytes.
const maxLedgerName = 512

// ledgerDomain separates the hashes of ledgers from all other hashes.
const ledgerDomain = "keyd ledger v1\n"

// EncodeLedger returns the bytes of a ledger. It refuses one that is too large, and an impossible name.
func EncodeLedger(name string, blob []byte) ([]byte, error) {
	switch {
	case name == "" || len(name) > maxLedgerName:
		return nil, fmt.Errorf("%q cannot be the name of a ledger: 1 to %d bytes can", name, maxLedgerName)
	case len(blob) > MaxLedger:
		return nil, fmt.Errorf("the ledger of %s has %d bytes, and the store keeps at most %d", name, len(blob),
			MaxLedger)
	}
	sum := ledgerSum(name, blob)
	return bytes.Join([][]byte{sum[:], blob}, nil), nil
}

// ParseLedger returns the blob of a ledger's value, and checks its sum.
func ParseLedger(name string, value []byte) ([]byte, error) {
	if len(value) < sha256.Size || ledgerSum(name, value[sha256.Size:]) != chain.Hash(value[:sha256.Size]) {
		return nil, fmt.Errorf("the ledger of %q does not match its checksum", name)
	}
	return bytes.Clone(value[sha256.Size:]), nil
}

// ledgerSum is SHA-256(domain ‖ len(name) ‖ name ‖ blob), the number as 8 bytes big endian.
func ledgerSum(name string, blob []byte) chain.Hash {
	h := sha256.New()
	h.Write([]byte(ledgerDomain))
	h.Write(Number(uint64(len(name))))
	h.Write([]byte(name))
	h.Write(blob)
	return chain.Hash(h.Sum(nil))
}
