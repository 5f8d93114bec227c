package audit

import (
	"encoding/base64"
	"errors"
	"maps"
	"strconv"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
)

// signed is a checkpoint as the chain keeps it: an entry of its own, or, if root accepted a break, one of those.
type signed struct {
	key.SignedCheckpoint
	by key.Fingerprint // of the audit key, also where the checkpoint itself does not name it
}

func newSigned(c key.SignedCheckpoint) signed { return signed{c, c.Signer} }

// noPrevious is the field of the first checkpoint that could name the one before.
const noPrevious = "none"

func (s signed) event() chain.Event {
	if s.Break != nil {
		return chain.BreakAccepted
	}
	return chain.CheckpointSigned
}

func (s signed) fields() map[string]string {
	f := map[string]string{
		"instance": s.Instance, "seq": strconv.FormatUint(s.Seq, 10), "head": string(s.Head),
		"signed": s.Time.UTC().Format(time.RFC3339), "audit_key": string(s.by),
		"signature": base64.StdEncoding.EncodeToString(s.Signature),
	}
	if s.Signer == "" {
		return f
	}
	f["previous"] = noPrevious
	if s.Previous != "" {
		f["previous"] = string(s.Previous)
	}
	if b := s.Break; b != nil {
		f["break"], f["reason"] = s.BreakID(), b.Reason
		f["old_seq"], f["old_head"] = strconv.FormatUint(b.Seq, 10), string(b.Head)
	}
	return f
}

// parseSigned reads what fields wrote, and nothing else. ok is false if the entry is no checkpoint.
func parseSigned(e chain.Entry) (s signed, ok bool, err error) {
	if e.Key != "" || e.Event != chain.CheckpointSigned && e.Event != chain.BreakAccepted {
		return s, false, nil
	}
	var errs [5]error
	s.Instance, s.Head = e.Fields["instance"], key.Fingerprint(e.Fields["head"])
	s.Seq, errs[0] = strconv.ParseUint(e.Fields["seq"], 10, 64)
	s.Time, errs[1] = time.Parse(time.RFC3339, e.Fields["signed"])
	s.by, errs[2] = key.ParseFingerprint(e.Fields["audit_key"])
	s.Signature, errs[3] = base64.StdEncoding.DecodeString(e.Fields["signature"])
	if previous, named := e.Fields["previous"]; named {
		s.Signer = s.by
		if previous != noPrevious {
			s.Previous = key.Fingerprint(previous)
		}
	}
	if e.Event == chain.BreakAccepted {
		s.Break = &key.Break{Head: key.Fingerprint(e.Fields["old_head"]), Reason: e.Fields["reason"]}
		s.Break.Seq, errs[4] = strconv.ParseUint(e.Fields["old_seq"], 10, 64)
	}
	if err = errors.Join(errs[:]...); err == nil {
		err = s.Valid()
	}
	if err == nil && !maps.Equal(s.fields(), e.Fields) {
		err = errors.New("it is not written as keyd writes it")
	}
	return s, true, err
}

// lineage checks that each checkpoint names the one before it.
type lineage struct {
	known bool    // last is, or there is none before
	last  *signed // nil: none yet
}

// next takes the next checkpoint of the chain, and says what is wrong with its place; "" if nothing is.
func (l *lineage) next(s signed) (problem string) {
	before, known := l.last, l.known
	l.last, l.known = &s, true
	switch {
	case s.Signer == "" && before != nil && before.Signer != "":
		return "it is of the old form, and the one before it is of the new: it was put there later"
	case s.Signer == "" || !known || s.Break != nil: // what a break says of the one before is of another chain
		return ""
	case before == nil && s.Previous != "":
		return "it follows another one, which this chain does not have"
	case before != nil && s.Previous != before.Digest():
		return "it does not follow the one before it in this chain: another one was signed between them"
	}
	return ""
}
