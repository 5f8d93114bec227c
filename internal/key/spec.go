package key

import (
	"fmt"
	"slices"
	"strings"
)

// Spec is the kind and size of a generation's key pair.
type Spec string

// The specs that keyd makes: RSA with public exponent 65537. The number is the
// modulus size in bits.
const (
	RSA2048 Spec = "RSA-2048"
	RSA3072 Spec = "RSA-3072"
	RSA4096 Spec = "RSA-4096"
)

// Specs lists every spec, smallest first.
func Specs() []Spec { return []Spec{RSA2048, RSA3072, RSA4096} }

// ParseSpec accepts exactly the names that Specs lists.
func ParseSpec(s string) (Spec, error) {
	if spec := Spec(s); slices.Contains(Specs(), spec) {
		return spec, nil
	}
	return "", fmt.Errorf("unknown spec %q: write one of RSA-2048, RSA-3072, RSA-4096", s)
}

// Bits is the size of the modulus in bits, 0 for an unknown spec.
func (s Spec) Bits() int {
	switch s {
	case RSA2048:
		return 2048
	case RSA3072:
		return 3072
	case RSA4096:
		return 4096
	}
	return 0
}

// Operation is a JSON Web Key operation as Key Vault spells it (RFC 7517
// section 4.3, with Key Vault's wrapKey and unwrapKey).
type Operation string

// The operations that an imported RSA key can have.
const (
	WrapKey   Operation = "wrapKey"
	UnwrapKey Operation = "unwrapKey"
	Encrypt   Operation = "encrypt"
	Decrypt   Operation = "decrypt"
	Sign      Operation = "sign"
	Verify    Operation = "verify"
)

// Pairs lists the pairs of operations that can prove a key, the preferred pair first.
func Pairs() [][2]Operation {
	return [][2]Operation{{WrapKey, UnwrapKey}, {Encrypt, Decrypt}, {Sign, Verify}}
}

// ProofPair returns the first complete pair in ops. ok is false when there is none; then keyd could never prove the
// key.
func ProofPair(ops []Operation) (pair [2]Operation, ok bool) {
	for _, p := range Pairs() {
		if slices.Contains(ops, p[0]) && slices.Contains(ops, p[1]) {
			return p, true
		}
	}
	return pair, false
}

// ParseOperation accepts the six operations, spelled exactly as Key Vault does.
func ParseOperation(s string) (Operation, error) {
	for _, p := range Pairs() {
		for _, op := range p {
			if string(op) == s {
				return op, nil
			}
		}
	}
	var names []string
	for _, p := range Pairs() {
		names = append(names, string(p[0]), string(p[1]))
	}
	return "", fmt.Errorf("unknown operation %q: write one of %s", s, strings.Join(names, ", "))
}
