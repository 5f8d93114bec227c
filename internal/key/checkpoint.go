package key

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Checkpoint is the head of an instance's audit chain at one moment. The audit key signs nothing else.
type Checkpoint struct {
	Instance string      `json:"instance"`
	Seq      uint64      `json:"seq"`  // number of the chain's last entry, from 1
	Head     Fingerprint `json:"head"` // that entry's hash: "sha256:" and 64 lower-case hex digits
	Time     time.Time   `json:"time"` // when it was signed; the message has whole seconds
}

// checkpointDomain separates the message from everything else that a key could sign, and from later forms of the
// message.
const checkpointDomain = "keyd audit checkpoint v1"

// Message returns the bytes to sign: five lines of text, so that `openssl dgst -sha256 -verify` can check them too.
func (c Checkpoint) Message() []byte {
	return fmt.Appendf(nil, "%s\ninstance %s\nseq %d\nhead %s\ntime %s\n",
		checkpointDomain, c.Instance, c.Seq, c.Head, c.Time.UTC().Format(time.RFC3339))
}

// Valid returns an error that says what is wrong with the checkpoint.
func (c Checkpoint) Valid() error {
	print, err := ParseFingerprint(string(c.Head))
	switch {
	case !ValidName(c.Instance):
		return fmt.Errorf("the checkpoint's instance %q is not a name", c.Instance)
	case c.Seq == 0:
		return errors.New("a checkpoint of an empty chain")
	case err != nil || print != c.Head:
		return fmt.Errorf("the checkpoint's head %q is not sha256: and 64 lower-case hex digits", c.Head)
	case c.Time.Year() < 2000 || c.Time.Year() > 9999:
		return fmt.Errorf("the checkpoint's time %v is none", c.Time)
	}
	return nil
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
