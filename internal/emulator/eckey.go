package emulator

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
)

type ecKey struct {
	private *ecdsa.PrivateKey
}

// curves are the service's curves, each with its one signature algorithm.
var curves = map[string]struct {
	curve     elliptic.Curve
	algorithm string
	hash      crypto.Hash
}{
	"P-256": {elliptic.P256(), "ES256", crypto.SHA256},
	"P-384": {elliptic.P384(), "ES384", crypto.SHA384},
	"P-521": {elliptic.P521(), "ES512", crypto.SHA512},
}

func checkCurve(name string) (elliptic.Curve, error) {
	c, ok := curves[name]
	if !ok {
		return nil, badParameter("The emulator has the curves P-256, P-384, P-521 and P-256K, not %q.", name)
	}
	return c.curve, nil
}

func newECKey(key *ecdsa.PrivateKey) (material, error) {
	_, err := checkCurve(key.Curve.Params().Name)
	return &ecKey{key}, err
}

func generateEC(name string) (material, error) {
	if name == "" {
		name = "P-256"
	}
	if name == curveK1 {
		return generateK1()
	}
	curve, err := checkCurve(name)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generating an EC key: %w", err)
	}
	return &ecKey{key}, nil
}

func ecFromJWK(k jsonWebKey) (material, error) {
	if k.Crv == curveK1 {
		return k1FromJWK(k)
	}
	curve, err := checkCurve(k.Crv)
	if err != nil {
		return nil, err
	}
	size := scalarSize(curve)
	if len(k.D) > size || len(k.X) > size || len(k.Y) > size {
		return nil, badParameter("The JSON web key is not a valid EC private key: d, x and y have at most %d bytes.",
			size)
	}
	key, err := ecdsa.ParseRawPrivateKey(curve, leftPad(k.D, size))
	if err != nil {
		return nil, badParameter("The JSON web key is not a valid EC private key.")
	}
	m := &ecKey{key}
	x, y, err := m.point()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(x, leftPad(k.X, size)) || !bytes.Equal(y, leftPad(k.Y, size)) {
		return nil, badParameter("The JSON web key's x and y are not the public key of d.")
	}
	return m, nil
}

func (k *ecKey) family() string { return "EC" }

func (k *ecKey) operations() []string { return []string{"sign", "verify"} }

func (k *ecKey) curve() string { return k.private.Curve.Params().Name }

func (k *ecKey) show(j *jsonWebKey) {
	x, y, err := k.point()
	if err == nil { // a generated or parsed key has a point
		j.Crv, j.X, j.Y = k.curve(), x, y
	}
}

// point returns the coordinates at full length (RFC 7518, 6.2.1).
func (k *ecKey) point() (x, y []byte, err error) {
	encoded, err := k.private.PublicKey.Bytes()
	if err != nil {
		return nil, nil, fmt.Errorf("encoding the public point: %w", err)
	}
	size := scalarSize(k.private.Curve)
	return encoded[1 : 1+size], encoded[1+size:], nil
}

func (k *ecKey) another() (material, error) { return generateEC(k.curve()) }

func (k *ecKey) marshal() ([]byte, error) { return x509.MarshalPKCS8PrivateKey(k.private) }

// compute signs; the signature is r ‖ s (RFC 7518, 3.4).
func (k *ecKey) compute(operation string, q operationRequest) (operationResult, error) {
	if operation != opSign {
		return operationResult{}, badAlgorithm(q.Algorithm, k)
	}
	if err := k.check(q.Algorithm, q.Value); err != nil {
		return operationResult{}, err
	}
	r, s, err := ecdsa.Sign(rand.Reader, k.private, q.Value)
	if err != nil {
		return operationResult{}, fmt.Errorf("signing with %s: %w", q.Algorithm, err)
	}
	size := scalarSize(k.private.Curve)
	signature := make([]byte, 2*size)
	r.FillBytes(signature[:size])
	s.FillBytes(signature[size:])
	return operationResult{Value: signature}, nil
}

func (k *ecKey) verify(algorithm string, digest, signature []byte) (bool, error) {
	if err := k.check(algorithm, digest); err != nil {
		return false, err
	}
	size := scalarSize(k.private.Curve)
	if len(signature) != 2*size {
		return false, nil
	}
	r, s := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
	return ecdsa.Verify(&k.private.PublicKey, digest, r, s), nil
}

func (k *ecKey) check(algorithm string, digest []byte) error {
	c := curves[k.curve()]
	if algorithm != c.algorithm {
		return badParameter("A key on %s signs with %s, not %q.", k.curve(), c.algorithm, algorithm)
	}
	return checkDigest(algorithm, c.hash, digest)
}

func scalarSize(c elliptic.Curve) int { return (c.Params().BitSize + 7) / 8 }

func leftPad(b []byte, size int) []byte {
	return append(make([]byte, max(0, size-len(b))), b...)
}
