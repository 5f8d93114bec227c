package attest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/keyd-project/keyd/internal/key"
)

// A statement is data ‖ signature. The data are a header, attributes (type, length, value, all big-endian), and zeros.
const (
	signatureSize = 256
	headerSize    = 32
	countAt       = 24 // in the header: how many attributes follow
	maxStatement  = 64 << 10
	maxAttributes = 256
)

// Attributes that keyd reads, numbered as in PKCS#11 where it has them.
const (
	attrClass            = 0x0
	attrKeyType          = 0x100
	attrID               = 0x102
	attrDecrypt          = 0x105
	attrUnwrap           = 0x107
	attrModulus          = 0x120
	attrExponent         = 0x122
	attrExtractable      = 0x162
	attrLocal            = 0x163
	attrNeverExtractable = 0x164
)

const (
	classPublic  = 2
	classPrivate = 3
	keyTypeRSA   = 0
)

// attributes are a statement's, by type.
type attributes map[uint32][]byte

// split returns the signed data and the signature.
func split(statement []byte) (data, signature []byte, err error) {
	if len(statement) < headerSize+signatureSize || len(statement) > maxStatement {
		return nil, nil, fmt.Errorf("the statement has %d bytes: it is cut short, or not a statement", len(statement))
	}
	at := len(statement) - signatureSize
	return statement[:at], statement[at:], nil
}

// parseAttributes reads the attributes. Each type may be there once: readers that take the first and readers that
// take the last would read two different statements.
func parseAttributes(data []byte) (attributes, error) {
	count := binary.BigEndian.Uint32(data[countAt:])
	if count > maxAttributes {
		return nil, fmt.Errorf("the statement claims %d attributes, more than %d", count, maxAttributes)
	}
	all, rest := attributes{}, data[headerSize:]
	for range count {
		if len(rest) < 8 || uint64(len(rest)-8) < uint64(binary.BigEndian.Uint32(rest[4:])) {
			return nil, errors.New("the statement is cut short within its attributes")
		}
		kind, size := binary.BigEndian.Uint32(rest), binary.BigEndian.Uint32(rest[4:])
		if _, twice := all[kind]; twice {
			return nil, fmt.Errorf("the statement has the attribute %#x twice: it can be read in two ways", kind)
		}
		all[kind] = rest[8 : 8+size]
		rest = rest[8+size:]
	}
	if len(bytes.TrimLeft(rest, "\x00")) > 0 {
		return nil, errors.New("the statement has more than the attributes that it counts")
	}
	return all, nil
}

// facts reads what keyd wants to know of a private RSA key.
func (a attributes) facts() (Facts, error) {
	class, err := a.number(attrClass)
	switch {
	case err != nil:
		return Facts{}, err
	case class == classPublic:
		return Facts{}, errors.New("the statement is about the public key, which says nothing about the private one")
	case class != classPrivate:
		return Facts{}, fmt.Errorf("the statement is about an object of class %d, not a private key", class)
	}
	if kind, err := a.number(attrKeyType); err != nil || kind != keyTypeRSA {
		return Facts{}, errors.Join(errors.New("the statement is not about an RSA key"), err)
	}
	material, err := key.FromJWK(a[attrModulus], a[attrExponent])
	if err != nil {
		return Facts{}, fmt.Errorf("the public key in the statement: %w", err)
	}
	f := Facts{Fingerprint: material.Fingerprint()}
	if f.Key, f.Version, err = a.id(); err != nil {
		return Facts{}, err
	}
	for _, flag := range []struct {
		kind uint32
		into *bool
	}{
		{attrExtractable, &f.Extractable}, {attrLocal, &f.Local}, {attrNeverExtractable, &f.NeverExtractable},
		{attrDecrypt, &f.Decrypt}, {attrUnwrap, &f.Unwrap},
	} {
		if *flag.into, err = a.flag(flag.kind); err != nil {
			return Facts{}, err
		}
	}
	return f, nil
}

// id reads /keys/NAME/VERSION, which zeros follow.
func (a attributes) id() (name, version string, err error) {
	id := string(bytes.TrimRight(a[attrID], "\x00"))
	parts := strings.Split(id, "/")
	if len(parts) != 4 || parts[0] != "" || parts[1] != "keys" || !key.ValidName(parts[2]) {
		return "", "", fmt.Errorf("the statement names the key %q, not /keys/NAME/VERSION", id)
	}
	if _, err := key.ParseID(parts[3]); err != nil { // a version has the form of an id
		return "", "", fmt.Errorf("the statement names the key %q, which has no version of 32 hex digits", id)
	}
	return parts[2], parts[3], nil
}

func (a attributes) flag(kind uint32) (bool, error) {
	if v := a[kind]; len(v) == 1 && v[0] <= 1 {
		return v[0] == 1, nil
	}
	return false, fmt.Errorf("the attribute %#x of the statement is %x, neither true nor false", kind, a[kind])
}

func (a attributes) number(kind uint32) (n uint32, err error) {
	v := a[kind]
	if len(v) == 0 || len(v) > 4 {
		return 0, fmt.Errorf("the attribute %#x of the statement is %x, not a number", kind, v)
	}
	for _, b := range v {
		n = n<<8 | uint32(b)
	}
	return n, nil
}
