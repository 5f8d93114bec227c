package emulator

import (
	"bytes"
	"crypto"
	"fmt"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

const (
	curveK1     = "P-256K" // secp256k1, which Go's own packages do not have
	algorithmK1 = "ES256K"
	sizeK1      = 32 // bytes of a coordinate, of a scalar
)

type k1Key struct{ private *secp256k1.PrivateKey }

func generateK1() (material, error) {
	key, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		return nil, fmt.Errorf("generating a key on %s: %w", curveK1, err)
	}
	return &k1Key{key}, nil
}

// newK1Key reads the scalar.
func newK1Key(scalar []byte) (material, error) {
	var n secp256k1.ModNScalar
	if len(scalar) > sizeK1 || n.SetByteSlice(scalar) || n.IsZero() {
		return nil, badParameter("The JSON web key is not a valid EC private key.")
	}
	return &k1Key{secp256k1.NewPrivateKey(&n)}, nil
}

func k1FromJWK(k jsonWebKey) (material, error) {
	m, err := newK1Key(k.D)
	if err != nil {
		return nil, err
	}
	var shown jsonWebKey
	m.show(&shown)
	if !bytes.Equal(shown.X, leftPad(k.X, sizeK1)) || !bytes.Equal(shown.Y, leftPad(k.Y, sizeK1)) {
		return nil, badParameter("The JSON web key's x and y are not the public key of d.")
	}
	return m, nil
}

func (k *k1Key) family() string { return "EC" }

func (k *k1Key) operations() []string { return []string{"sign", "verify"} }

func (k *k1Key) show(j *jsonWebKey) {
	point := k.private.PubKey().SerializeUncompressed()
	j.Crv, j.X, j.Y = curveK1, point[1:1+sizeK1], point[1+sizeK1:]
}

func (k *k1Key) another() (material, error) { return generateK1() }

// marshal returns the scalar: x509 has no PKCS#8 for this curve.
func (k *k1Key) marshal() ([]byte, error) { return k.private.Serialize(), nil }

// compute signs; the signature is r ‖ s (RFC 8812 section 3.2).
func (k *k1Key) compute(operation string, q operationRequest) (operationResult, error) {
	if operation != opSign {
		return operationResult{}, badAlgorithm(q.Algorithm, k)
	}
	if err := k.check(q.Algorithm, q.Value); err != nil {
		return operationResult{}, err
	}
	signature := ecdsa.Sign(k.private, q.Value)
	r, s := signature.R(), signature.S()
	rb, sb := r.Bytes(), s.Bytes()
	return operationResult{Value: append(rb[:], sb[:]...)}, nil
}

func (k *k1Key) verify(algorithm string, digest, signature []byte) (bool, error) {
	if err := k.check(algorithm, digest); err != nil {
		return false, err
	}
	var r, s secp256k1.ModNScalar
	if len(signature) != 2*sizeK1 || r.SetByteSlice(signature[:sizeK1]) || s.SetByteSlice(signature[sizeK1:]) {
		return false, nil
	}
	return ecdsa.NewSignature(&r, &s).Verify(digest, k.private.PubKey()), nil
}

func (k *k1Key) check(algorithm string, digest []byte) error {
	if algorithm != algorithmK1 {
		return badParameter("A key on %s signs with %s, not %q.", curveK1, algorithmK1, algorithm)
	}
	return checkDigest(algorithm, crypto.SHA256, digest)
}
