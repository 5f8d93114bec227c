package key

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Checkpoint is the head of an instance's audit chain at one moment. The audit key signs nothing else.
type Checkpoint struct {
	Instance string      `json:"instance"`
	Seq      uint64      `json:"seq"`  // number of the chain's last entry, from 1
	Head     Fingerprint `json:"head"` // that entry's hash: "sha256:" and 64 lower-case hex digits
	Time     time.Time   `json:"time"` // when it was signed, by the HSM side's clock, in whole seconds
	// Signer is the audit key. "": the checkpoint is of the first form, which named neither signer nor predecessor.
	Signer Fingerprint `json:"signer,omitempty"`
	// Previous is the Digest of the checkpoint that the HSM side signed before; "" of the first one.
	Previous Fingerprint `json:"previous,omitempty"`
	// Break is set if this checkpoint does not continue the one before: root accepted another head.
	Break *Break `json:"break,omitempty"`
}

// Break is why the chain does not continue the head that the HSM side signed before.
type Break struct {
	Seq    uint64      `json:"seq,omitempty"`  // of that head; 0: the HSM side no longer knew one
	Head   Fingerprint `json:"head,omitempty"` // "" if Seq is 0
	Reason string      `json:"reason"`         // root's words
}

// SignedCheckpoint is a checkpoint with the audit key's signature.
type SignedCheckpoint struct {
	Checkpoint
	Signature []byte `json:"signature"`
}

// The first lines separate the messages from everything else that a key could sign, and from each other.
const (
	checkpointV1 = "keyd audit checkpoint v1"
	checkpointV2 = "keyd audit checkpoint v2"
	breakV1      = "keyd audit break v1"
)

// Message returns the bytes to sign: lines of text, so that `openssl dgst -sha256 -verify` can check them too.
func (c Checkpoint) Message() []byte {
	first := checkpointV2
	switch {
	case c.Break != nil:
		first = breakV1
	case c.Signer == "":
		first = checkpointV1
	}
	text := fmt.Appendf(nil, "%s\ninstance %s\nseq %d\nhead %s\ntime %s\n",
		first, c.Instance, c.Seq, c.Head, c.Time.UTC().Format(time.RFC3339))
	if first != checkpointV1 {
		text = fmt.Appendf(text, "signer %s\nprevious %s\n", c.Signer, orNone(c.Previous))
	}
	if b := c.Break; b != nil {
		text = fmt.Appendf(text, "old-seq %d\nold-head %s\nreason %s\n", b.Seq, orNone(b.Head),
			strconv.QuoteToASCII(b.Reason))
	}
	return text
}

func orNone(f Fingerprint) string {
	if f == "" {
		return "none"
	}
	return string(f)
}

// Digest is the SHA-256 of the message. The next checkpoint names it.
func (c Checkpoint) Digest() Fingerprint {
	sum := sha256.Sum256(c.Message())
	return Fingerprint("sha256:" + hex.EncodeToString(sum[:]))
}

// BreakID names a break, for a person: the first 16 hex digits of its digest.
func (c Checkpoint) BreakID() string { return strings.TrimPrefix(string(c.Digest()), "sha256:")[:16] }

// maxReason is how many bytes the reason may have that root gives for what the audit keeps for ever.
const maxReason = 500

// ValidReason returns an error that says why text cannot be a reason of root.
func ValidReason(text string) error {
	if text == "" || len(text) > maxReason || !utf8.ValidString(text) {
		return fmt.Errorf("the reason has 1 to %d bytes of UTF-8, not %d", maxReason, len(text))
	}
	return nil
}

// Valid returns an error that says what is wrong with the checkpoint.
func (c Checkpoint) Valid() error {
	switch {
	case !ValidName(c.Instance):
		return fmt.Errorf("the checkpoint's instance %q is not a name", c.Instance)
	case c.Seq == 0:
		return errors.New("a checkpoint of an empty chain")
	case !c.Head.valid():
		return fmt.Errorf("the checkpoint's head %q is not sha256: and 64 lower-case hex digits", c.Head)
	case c.Time.Year() < 2000 || c.Time.Year() > 9999:
		return fmt.Errorf("the checkpoint's time %v is none", c.Time)
	case c.Signer != "" && !c.Signer.valid():
		return fmt.Errorf("the checkpoint's signer %q is no fingerprint", c.Signer)
	case c.Previous != "" && (c.Signer == "" || !c.Previous.valid()):
		return fmt.Errorf("the checkpoint before, %q, is no digest", c.Previous)
	case c.Break == nil:
		return nil
	case c.Signer == "":
		return errors.New("a break that names no signer")
	case ValidReason(c.Break.Reason) != nil:
		return ValidReason(c.Break.Reason)
	case (c.Break.Seq == 0) != (c.Break.Head == "") || c.Break.Seq != 0 && !c.Break.Head.valid():
		return fmt.Errorf("the old head %d %q is none", c.Break.Seq, c.Break.Head)
	}
	return nil
}

// valid reports whether f is "sha256:" and 64 lower-case hex digits.
func (f Fingerprint) valid() bool {
	print, err := ParseFingerprint(string(f))
	return err == nil && print == f
}

// Verify reports whether the checkpoint is valid and its signature is by this audit key: RSASSA-PKCS1-v1_5 with SHA-256
// (RFC 8017 section 8.2). That key is keyd's own and never leaves the HSM: it is RSA whatever the keys for vaults are.
func (s SignedCheckpoint) Verify(by Material) bool {
	pub, isRSA := by.RSA()
	if !isRSA || s.Valid() != nil || s.Signer != "" && by.Matches(s.Signer) != MatchYes {
		return false
	}
	digest := sha256.Sum256(s.Message())
	return rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], s.Signature) == nil
}

// Mark names the entry of the chain that the checkpoint covers, in the short form for tags and the journal:
// "SEQ:sha256:HEX", at most 92 characters.
func (c Checkpoint) Mark() string { return fmt.Sprintf("%d:%s", c.Seq, c.Head) }

// ParseMark reads what Mark writes.
func ParseMark(s string) (seq uint64, head Fingerprint, err error) {
	number, hash, _ := strings.Cut(s, ":")
	seq, err = strconv.ParseUint(number, 10, 64)
	if err == nil {
		head, err = ParseFingerprint(hash)
	}
	if err != nil || seq == 0 {
		return 0, "", fmt.Errorf("%q is not SEQ:HASH, such as 57:sha256: and 64 hex digits", s)
	}
	return seq, head, nil
}
