package emulator

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" // RSA-OAEP of JWA is defined with SHA-1
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"math/big"
)

type rsaKey struct {
	private *rsa.PrivateKey
	n       octets // as given, for a software key; nil: without leading zeros
}

func newRSAKey(key *rsa.PrivateKey) (material, error) {
	if err := checkSize(key.N.BitLen()); err != nil {
		return nil, err
	}
	return &rsaKey{private: key}, nil
}

func checkSize(bits int) error {
	if bits != 2048 && bits != 3072 && bits != 4096 {
		return badParameter("RSA keys have 2048, 3072 or 4096 bits, not %d", bits)
	}
	return nil
}

func generateRSA(bits, exponent int) (material, error) {
	if bits == 0 {
		bits = 2048
	}
	if err := checkSize(bits); err != nil {
		return nil, err
	}
	if exponent != 0 && exponent != 65537 {
		return nil, badParameter("The emulator makes RSA keys with the public exponent 65537, not %d.", exponent)
	}
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, fmt.Errorf("generating an RSA key: %w", err)
	}
	return &rsaKey{private: key}, nil
}

func rsaFromJWK(k jsonWebKey) (material, error) {
	number := func(o octets) *big.Int { return new(big.Int).SetBytes(o) }
	e := number(k.E)
	if !e.IsInt64() || e.Int64() > 1<<31-1 {
		return nil, badParameter("The public exponent is too large.")
	}
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: number(k.N), E: int(e.Int64())},
		D:         number(k.D),
		Primes:    []*big.Int{number(k.P), number(k.Q)},
	}
	if err := checkSize(key.N.BitLen()); err != nil {
		return nil, err
	}
	key.Precompute()
	if err := key.Validate(); err != nil {
		return nil, badParameter("The JSON web key is not a valid RSA private key.")
	}
	if isHSM(k.Kty) {
		return &rsaKey{private: key}, nil
	}
	return &rsaKey{private: key, n: k.N}, nil
}

func (k *rsaKey) family() string { return "RSA" }

func (k *rsaKey) operations() []string {
	return []string{"encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"}
}

func (k *rsaKey) show(j *jsonWebKey) {
	j.N, j.E = k.n, big.NewInt(int64(k.private.E)).Bytes()
	if j.N == nil {
		j.N = k.private.N.Bytes()
	}
}

func (k *rsaKey) another() (material, error) { return generateRSA(k.private.N.BitLen(), 0) }

func (k *rsaKey) marshal() ([]byte, error) { return x509.MarshalPKCS8PrivateKey(k.private) }

func (k *rsaKey) compute(operation string, q operationRequest) (r operationResult, err error) {
	switch operation {
	case opWrap, opEncrypt:
		r.Value, err = k.encrypt(q.Algorithm, q.Value)
	case opUnwrap, opDecrypt:
		r.Value, err = k.decrypt(q.Algorithm, q.Value)
	default:
		r.Value, err = k.sign(q.Algorithm, q.Value)
	}
	return r, err
}

func (k *rsaKey) encrypt(algorithm string, plaintext []byte) ([]byte, error) {
	var out []byte
	var err error
	switch algorithm {
	case "RSA-OAEP":
		out, err = rsa.EncryptOAEP(sha1.New(), rand.Reader, &k.private.PublicKey, plaintext, nil)
	case "RSA-OAEP-256":
		out, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, &k.private.PublicKey, plaintext, nil)
	case "RSA1_5":
		public := &k.private.PublicKey
		out, err = rsa.EncryptPKCS1v15(rand.Reader, public, plaintext) //nolint:staticcheck // the service has it
	default:
		return nil, badAlgorithm(algorithm, k)
	}
	if err != nil {
		return nil, badParameter("The value has a length that %s with this key cannot take: %d bytes.",
			algorithm, len(plaintext))
	}
	return out, nil
}

func (k *rsaKey) decrypt(algorithm string, ciphertext []byte) ([]byte, error) {
	var out []byte
	var err error
	switch algorithm {
	case "RSA-OAEP":
		out, err = rsa.DecryptOAEP(sha1.New(), nil, k.private, ciphertext, nil)
	case "RSA-OAEP-256":
		out, err = rsa.DecryptOAEP(sha256.New(), nil, k.private, ciphertext, nil)
	case "RSA1_5":
		out, err = rsa.DecryptPKCS1v15(nil, k.private, ciphertext) //nolint:staticcheck // the service has it
	default:
		return nil, badAlgorithm(algorithm, k)
	}
	if err != nil {
		return nil, badParameter("The value cannot be opened by this key version with %s.", algorithm)
	}
	return out, nil
}

func (k *rsaKey) sign(algorithm string, digest []byte) ([]byte, error) {
	hash, pss, err := k.scheme(algorithm, digest)
	if err != nil {
		return nil, err
	}
	var out []byte
	if pss {
		out, err = rsa.SignPSS(rand.Reader, k.private, hash, digest,
			&rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	} else {
		out, err = rsa.SignPKCS1v15(nil, k.private, hash, digest)
	}
	if err != nil {
		return nil, fmt.Errorf("signing with %s: %w", algorithm, err)
	}
	return out, nil
}

func (k *rsaKey) verify(algorithm string, digest, signature []byte) (bool, error) {
	hash, pss, err := k.scheme(algorithm, digest)
	if err != nil {
		return false, err
	}
	if pss {
		return rsa.VerifyPSS(&k.private.PublicKey, hash, digest, signature, nil) == nil, nil
	}
	return rsa.VerifyPKCS1v15(&k.private.PublicKey, hash, digest, signature) == nil, nil
}

func (k *rsaKey) scheme(algorithm string, digest []byte) (hash crypto.Hash, pss bool, err error) {
	switch algorithm {
	case "RS256", "PS256":
		hash = crypto.SHA256
	case "RS384", "PS384":
		hash = crypto.SHA384
	case "RS512", "PS512":
		hash = crypto.SHA512
	default:
		return 0, false, badAlgorithm(algorithm, k)
	}
	return hash, algorithm[0] == 'P', checkDigest(algorithm, hash, digest)
}

func checkDigest(algorithm string, hash crypto.Hash, digest []byte) error {
	if len(digest) != hash.Size() {
		return badParameter("%s signs a digest of %d bytes, not %d.", algorithm, hash.Size(), len(digest))
	}
	return nil
}
