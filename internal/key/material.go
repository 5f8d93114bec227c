package key

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"unique"
)

// Family is a family of keys.
type Family string

// FamilyRSA is the one family that keyd makes and reads.
const FamilyRSA Family = "RSA"

// MaterialState is what keyd knows of material.
type MaterialState string

// The states of material. Only Known says anything about the material itself.
const (
	NotShown    MaterialState = ""            // not shown: a listing omits it, and a vault may refuse it
	Unreadable  MaterialState = "unreadable"  // the HSM has objects there, but no complete pair
	Unsupported MaterialState = "unsupported" // shown, but of a family that keyd does not read
	Known       MaterialState = "known"
)

// Match is the answer to the question whether two materials are the same.
type Match int

// The answers. MatchUnknown is neither: a caller that acts on it must assume the worse of the two.
const (
	MatchUnknown Match = iota
	MatchYes
	MatchNo
)

func (m Match) String() string {
	switch m {
	case MatchYes:
		return "yes"
	case MatchNo:
		return "no"
	default:
		return "unknown"
	}
}

// Material is a key's public half as the HSM or a vault shows it. The zero value is NotShown. Two values are equal (==)
// if state and material are. A value is as small as a pointer, and equal ones share their memory: a daemon with ten
// thousand keys keeps what it saw of each in several places.
type Material struct{ handle unique.Handle[material] }

type material struct {
	state  MaterialState
	family Family
	spec   Spec
	print  Fingerprint
	spki   string // SubjectPublicKeyInfo in DER (RFC 5280 section 4.1.2.7)
}

func materialOf(m material) Material {
	if m == (material{}) {
		return Material{}
	}
	return Material{unique.Make(m)}
}

func (m Material) value() material {
	if m == (Material{}) {
		return material{}
	}
	return m.handle.Value()
}

// UnreadableMaterial is the material of objects whose public key cannot be read or trusted.
func UnreadableMaterial() Material { return materialOf(material{state: Unreadable}) }

// UnsupportedMaterial is the material of a key that was shown but belongs to another family.
func UnsupportedMaterial() Material { return materialOf(material{state: Unsupported}) }

// FromRSA returns the material of an RSA public key of any size; the caller decides which sizes it accepts. It
// refuses a key with a missing or non-positive modulus, or with an exponent below 1.
func FromRSA(pub *rsa.PublicKey) (Material, error) {
	if pub == nil || pub.N == nil || pub.N.Sign() <= 0 || pub.E < 1 {
		return Material{}, errors.New("not an RSA public key: modulus and exponent must be positive")
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return Material{}, fmt.Errorf("encode the public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return materialOf(material{
		state: Known, family: FamilyRSA, spec: Spec(fmt.Sprintf("%s-%d", FamilyRSA, pub.N.BitLen())),
		print: Fingerprint("sha256:" + hex.EncodeToString(sum[:])), spki: string(der),
	}), nil
}

// FromJWK returns the material of an RSA key from the fields of a JSON Web Key (RFC 7518 section 6.3.1): modulus n
// and exponent e, big-endian. It accepts 2048 to 4096 bits, and an odd exponent from 3 to 2^31-1.
func FromJWK(n, e []byte) (Material, error) {
	modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e)
	if bits := modulus.BitLen(); bits < 2048 || bits > 4096 {
		return Material{}, fmt.Errorf("the RSA modulus has %d bits", bits)
	}
	if exponent.BitLen() > 31 || exponent.Bit(0) == 0 || exponent.Int64() < 3 {
		return Material{}, errors.New("the RSA exponent is not usable")
	}
	return FromRSA(&rsa.PublicKey{N: modulus, E: int(exponent.Int64())})
}

// ParseSPKI reads a SubjectPublicKeyInfo in DER (RFC 5280 section 4.1.2.7). A key that is not RSA is an error.
func ParseSPKI(der []byte) (Material, error) {
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return Material{}, fmt.Errorf("its public key cannot be read: %w", err)
	}
	pub, ok := public.(*rsa.PublicKey)
	if !ok {
		return Material{}, errors.New("its public key is not RSA")
	}
	return FromRSA(pub)
}

// State says what keyd knows of the material.
func (m Material) State() MaterialState { return m.value().state }

// Known reports whether keyd has seen and read the material.
func (m Material) Known() bool { return m.State() == Known }

// Family is the key's family; "" unless the material is known.
func (m Material) Family() Family { return m.value().family }

// Spec is the key's family and size, such as RSA-2048; "" unless the material is known. It may be a spec that keyd
// does not make.
func (m Material) Spec() Spec { return m.value().spec }

// Fingerprint pins the material; "" unless it is known.
func (m Material) Fingerprint() Fingerprint { return m.value().print }

// SPKI is the SubjectPublicKeyInfo in DER (RFC 5280 section 4.1.2.7); nil unless the material is known.
func (m Material) SPKI() []byte {
	if !m.Known() {
		return nil
	}
	return []byte(m.value().spki)
}

// Matches says whether the material is the one that the fingerprint pins. The fingerprint "" matches nothing. The
// answer is MatchUnknown unless the material is known.
func (m Material) Matches(pinned Fingerprint) Match {
	switch {
	case !m.Known():
		return MatchUnknown
	case m.Fingerprint() == pinned:
		return MatchYes
	default:
		return MatchNo
	}
}

// RSA returns the public key for callers that calculate with it: the rooms hsm, proof and audit, and the models. ok
// is false for unknown material and for another family.
func (m Material) RSA() (pub *rsa.PublicKey, ok bool) {
	if m.Family() != FamilyRSA {
		return nil, false
	}
	public, err := x509.ParsePKIXPublicKey([]byte(m.value().spki))
	if err != nil {
		return nil, false // cannot happen: FromRSA wrote it
	}
	pub, ok = public.(*rsa.PublicKey)
	return pub, ok
}

// MarshalText returns the SPKI in base64 for known material, and the state for any other.
func (m Material) MarshalText() ([]byte, error) {
	if m.Known() {
		return base64.StdEncoding.AppendEncode(nil, []byte(m.value().spki)), nil
	}
	return []byte(m.State()), nil
}

// UnmarshalText reads what MarshalText writes.
func (m *Material) UnmarshalText(text []byte) error {
	switch state := MaterialState(text); state {
	case NotShown, Unreadable, Unsupported:
		*m = materialOf(material{state: state})
		return nil
	}
	der, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("the material is not a SubjectPublicKeyInfo in base64: %w", err)
	}
	read, err := ParseSPKI(der)
	if err != nil {
		return fmt.Errorf("the material: %w", err)
	}
	*m = read
	return nil
}
