package emulator

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"slices"
	"strings"
)

// material is what a key version consists of and computes with.
type material interface {
	// family is RSA, EC or oct: the kty without "-HSM".
	family() string
	// operations are those that its key_ops may name, apart from import and export.
	operations() []string
	// show writes its public part.
	show(*jsonWebKey)
	// another makes fresh material of the same kind and size.
	another() (material, error)
	// compute runs any operation but verify.
	compute(operation string, q operationRequest) (operationResult, error)
	verify(algorithm string, digest, signature []byte) (bool, error)
	// marshal returns PKCS#8 DER, or the raw bytes of an oct key.
	marshal() ([]byte, error)
}

// generateMaterial makes material for a create request; for zero values it uses the service's defaults: RSA 2048,
// P-256, 256 bits.
func generateMaterial(q createRequest) (material, error) {
	switch family(q.Kty) {
	case "EC":
		return generateEC(q.Crv)
	case "oct":
		return generateOct(q.KeySize)
	default:
		return generateRSA(q.KeySize, q.PublicExponent)
	}
}

// parseMaterial reads the content of a transfer: PKCS#8 for RSA and EC (with RFC 5915 inside), the raw bytes for oct.
func parseMaterial(family string, plaintext []byte) (material, error) {
	if family == "oct" {
		return newOctKey(slices.Clone(plaintext))
	}
	parsed, err := x509.ParsePKCS8PrivateKey(plaintext)
	if err != nil {
		return nil, badParameter("transfer blob: the plaintext is not a PKCS#8 private key: %v", err)
	}
	switch key := parsed.(type) {
	case *rsa.PrivateKey:
		if family == "RSA" {
			return newRSAKey(key)
		}
	case *ecdsa.PrivateKey:
		if family == "EC" {
			return newECKey(key)
		}
	}
	return nil, badParameter("transfer blob: the plaintext is not the private key of an %s key", family)
}

// materialFromJWK reads a plain JSON web key.
func materialFromJWK(k jsonWebKey) (material, error) {
	switch family(k.Kty) {
	case "EC":
		return ecFromJWK(k)
	case "oct":
		return newOctKey(slices.Clone(k.K))
	default:
		return rsaFromJWK(k)
	}
}

func family(kty string) string { return strings.TrimSuffix(kty, hsmSuffix) }

const hsmSuffix = "-HSM"

func isHSM(kty string) bool { return strings.HasSuffix(kty, hsmSuffix) }

// asRSA returns the private key of RSA material.
func asRSA(m material) (*rsa.PrivateKey, error) {
	if d, ok := m.(*deferred); ok {
		loaded, err := d.load()
		if err != nil {
			return nil, err
		}
		m = loaded
	}
	if key, ok := m.(*rsaKey); ok {
		return key.private, nil
	}
	return nil, badParameter("This is an %s key, not an RSA key.", m.family())
}

func badAlgorithm(algorithm string, m material) *apiError {
	return badParameter("The algorithm %q is not supported by %s keys for this operation.", algorithm, m.family())
}
