package audit

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
)

// ours reports whether this package wrote the entry. Every export shows these entries.
func ours(e chain.Entry) bool {
	switch e.Event {
	case chain.CheckpointSigned, chain.AuditKeyIntended, chain.AuditKeyMade, chain.AuditKeyFound:
		return e.Key == ""
	}
	return false
}

// signed is a checkpoint as the chain keeps it.
type signed struct {
	key.Checkpoint
	By        key.Fingerprint // of the audit key
	Signature []byte
}

func (s signed) fields() map[string]string {
	return map[string]string{
		"instance": s.Instance, "seq": strconv.FormatUint(s.Seq, 10), "head": string(s.Head),
		"signed": s.Time.UTC().Format(time.RFC3339), "audit_key": string(s.By),
		"signature": base64.StdEncoding.EncodeToString(s.Signature),
	}
}

// parseSigned reads what fields wrote.
func parseSigned(e chain.Entry) (s signed, err error) {
	var errs [4]error
	s.Instance, s.Head = e.Fields["instance"], key.Fingerprint(e.Fields["head"])
	s.Seq, errs[0] = strconv.ParseUint(e.Fields["seq"], 10, 64)
	s.Time, errs[1] = time.Parse(time.RFC3339, e.Fields["signed"])
	s.By, errs[2] = key.ParseFingerprint(e.Fields["audit_key"])
	s.Signature, errs[3] = base64.StdEncoding.DecodeString(e.Fields["signature"])
	if err = errors.Join(errs[:]...); err == nil {
		err = s.Valid()
	}
	if err == nil && !maps.Equal(s.fields(), e.Fields) {
		err = errors.New("it is not written as keyd writes it")
	}
	return s, err
}

const pemType = "PUBLIC KEY"

// EncodeKey returns a public key as PEM (RFC 7468 section 13).
func EncodeKey(m key.Material) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: m.SPKI()})
}

// ParseKeys reads every public key of a PEM file. It refuses a file with anything else.
func ParseKeys(text []byte) (keys []key.Material, err error) {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		if block.Type != pemType {
			return nil, fmt.Errorf("it holds a %s, and keyd expects a PUBLIC KEY", block.Type)
		}
		m, err := key.ParseSPKI(block.Bytes)
		if err != nil {
			return nil, err
		}
		keys, text = append(keys, m), rest
	}
	if len(keys) == 0 || strings.TrimSpace(string(text)) != "" {
		return nil, errors.New("it is not a PEM file of public keys, such as `keyd audit key` prints")
	}
	return keys, nil
}
