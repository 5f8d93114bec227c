package key

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// ID is a generation's CKA_ID (PKCS#11 v3.0 section 4.6.1): 16 random bytes as
// 32 lower-case hex digits. Attempt ids have the same form.
type ID string

// NewID draws an ID from r, which must be a cryptographic source.
func NewID(r io.Reader) (ID, error) {
	var b [16]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return "", fmt.Errorf("draw a random id: %w", err)
	}
	return ID(hex.EncodeToString(b[:])), nil
}

// ParseID accepts 32 lower-case hex digits only.
func ParseID(s string) (ID, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 16 || s != strings.ToLower(s) {
		return "", fmt.Errorf("%q is not an id of 32 lower-case hex digits", s)
	}
	return ID(s), nil
}

// Bytes returns the 16 bytes of the id, or nil if the id is malformed.
func (id ID) Bytes() []byte {
	b, err := hex.DecodeString(string(id))
	if err != nil || len(b) != 16 {
		return nil
	}
	return b
}

// Fingerprint pins public key material: "sha256:" and the hex SHA-256 of the
// SubjectPublicKeyInfo in DER (RFC 5280 section 4.1.2.7).
type Fingerprint string

// ParseFingerprint accepts "sha256:" and 64 hex digits of either case.
func ParseFingerprint(s string) (Fingerprint, error) {
	digits, ok := strings.CutPrefix(s, "sha256:")
	b, err := hex.DecodeString(digits)
	if !ok || err != nil || len(b) != sha256.Size {
		return "", fmt.Errorf("%q is not a fingerprint: write sha256: and 64 hex digits", s)
	}
	return Fingerprint(strings.ToLower(s)), nil
}

// Short returns the first 12 digits, for tables.
func (f Fingerprint) Short() string {
	digits := strings.TrimPrefix(string(f), "sha256:")
	return digits[:min(12, len(digits))]
}

// Label names a generation in the HSM (CKA_LABEL). It is a hint for people and for rebuilding a lost record; the
// CKA_ID is what identifies the generation.
type Label struct {
	Instance string
	Key      string
	Number   int
	// Pending: no one has ever received the pair wrapped, so destroying it loses nothing. The HSM side clears Pending
	// before the first wrap.
	Pending bool
}

const pendingMark = "/pending"

// String returns "keyd/INSTANCE/KEY/NUMBER", followed by "/pending" while the pair is pending.
func (l Label) String() string {
	s := fmt.Sprintf("keyd/%s/%s/%d", l.Instance, l.Key, l.Number)
	if l.Pending {
		s += pendingMark
	}
	return s
}

// Placed is the label of the pair once it was wrapped for a vault.
func (l Label) Placed() Label {
	l.Pending = false
	return l
}

// ParseLabel reads what String writes. For any other text ok is false, and the object does not belong to keyd.
func ParseLabel(s string) (l Label, ok bool) {
	rest, pending := strings.CutSuffix(s, pendingMark)
	parts := strings.Split(rest, "/")
	if len(parts) != 4 || parts[0] != "keyd" || !ValidName(parts[1]) || !ValidName(parts[2]) {
		return Label{}, false
	}
	n, err := strconv.Atoi(parts[3])
	if err != nil || n < 1 || strconv.Itoa(n) != parts[3] {
		return Label{}, false
	}
	return Label{Instance: parts[1], Key: parts[2], Number: n, Pending: pending}, true
}

// Tags of an imported version. They are hints: a version is ours if its attempt tag or its modulus matches the
// record.
const (
	TagInstance   = "keyd-instance"
	TagGeneration = "keyd-generation"
	TagAttempt    = "keyd-attempt"
	TagCheckpoint = "keyd-checkpoint" // the Mark of the newest checkpoint before the import
)
