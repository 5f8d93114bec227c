package audit

import (
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
)

// ours reports whether this package wrote the entry. Every export shows these entries.
func ours(e chain.Entry) bool {
	switch e.Event {
	case chain.CheckpointSigned, chain.BreakAccepted, chain.AuditKeyIntended, chain.AuditKeyMade, chain.AuditKeyFound:
		return e.Key == ""
	}
	return false
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
