package emulator

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" // RSA-OAEP of JWA is defined with SHA-1
	"crypto/sha256"
	"fmt"
	"slices"
)

// permission is what a key must allow for an operation. Dates block only what
// makes new ciphertexts and signatures; old ones can always be opened.
type permission struct {
	keyOp string
	dated bool
}

var permissions = map[string]permission{
	opWrap:    {"wrapKey", true},
	opUnwrap:  {"unwrapKey", false},
	opEncrypt: {"encrypt", true},
	opDecrypt: {"decrypt", false},
	opSign:    {"sign", true},
	opVerify:  {"verify", false},
}

// compute runs one cryptographic operation with the material really held.
func (v *Vault) compute(t target, q operationRequest) (any, error) {
	k, ver, err := v.replica().version(t.key, t.version)
	if err != nil {
		return nil, err
	}
	if err := ver.permits(t.operation, v.opts.Now().Unix()); err != nil {
		return nil, err
	}
	if t.operation == opVerify {
		ok, err := verify(&ver.private.PublicKey, q.Algorithm, q.Digest, q.Value)
		return verifyResult{ok}, err
	}
	value, err := ver.compute(t.operation, q.Algorithm, q.Value)
	return operationResult{KID: v.id("keys", k.name, ver.id), Value: value}, err
}

func (ver *version) permits(operation string, now int64) error {
	p := permissions[operation]
	switch {
	case !ver.enabled:
		return forbidden("KeyDisabled", "Operation %s is not allowed on a disabled key.", p.keyOp)
	case !slices.Contains(ver.ops, p.keyOp):
		return forbidden("KeyOperationForbidden", "Operation %s is not permitted on this key.", p.keyOp)
	case p.dated && ver.nbf != nil && now < *ver.nbf:
		return forbidden("KeyNotYetValid", "Operation %s is not allowed on a key that is not yet valid.", p.keyOp)
	case p.dated && ver.exp != nil && now >= *ver.exp:
		return forbidden("KeyExpired", "Operation %s is not allowed on an expired key.", p.keyOp)
	}
	return nil
}

func (ver *version) compute(operation, algorithm string, value []byte) ([]byte, error) {
	switch operation {
	case opWrap, opEncrypt:
		return encrypt(&ver.private.PublicKey, algorithm, value)
	case opUnwrap, opDecrypt:
		plaintext, err := decrypt(ver.private, algorithm, value)
		if err == nil && ver.garbled && len(plaintext) > 0 {
			plaintext[0] ^= 1
		}
		return plaintext, err
	default:
		return sign(ver.private, algorithm, value)
	}
}

func encrypt(key *rsa.PublicKey, algorithm string, plaintext []byte) ([]byte, error) {
	var out []byte
	var err error
	switch algorithm {
	case "RSA-OAEP":
		out, err = rsa.EncryptOAEP(sha1.New(), rand.Reader, key, plaintext, nil)
	case "RSA-OAEP-256":
		out, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, key, plaintext, nil)
	case "RSA1_5":
		out, err = rsa.EncryptPKCS1v15(rand.Reader, key, plaintext) //nolint:staticcheck // the service has it
	default:
		return nil, badAlgorithm(algorithm)
	}
	if err != nil {
		return nil, badParameter("The value has a length that %s with this key cannot take: %d bytes.", algorithm, len(plaintext))
	}
	return out, nil
}

func decrypt(key *rsa.PrivateKey, algorithm string, ciphertext []byte) ([]byte, error) {
	var out []byte
	var err error
	switch algorithm {
	case "RSA-OAEP":
		out, err = rsa.DecryptOAEP(sha1.New(), nil, key, ciphertext, nil)
	case "RSA-OAEP-256":
		out, err = rsa.DecryptOAEP(sha256.New(), nil, key, ciphertext, nil)
	case "RSA1_5":
		out, err = rsa.DecryptPKCS1v15(nil, key, ciphertext) //nolint:staticcheck // the service has it
	default:
		return nil, badAlgorithm(algorithm)
	}
	if err != nil {
		return nil, badParameter("The value cannot be opened by this key version with %s.", algorithm)
	}
	return out, nil
}

func sign(key *rsa.PrivateKey, algorithm string, digest []byte) ([]byte, error) {
	hash, pss, err := signatureScheme(algorithm, digest)
	if err != nil {
		return nil, err
	}
	var out []byte
	if pss {
		out, err = rsa.SignPSS(rand.Reader, key, hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	} else {
		out, err = rsa.SignPKCS1v15(nil, key, hash, digest)
	}
	if err != nil {
		return nil, fmt.Errorf("signing with %s: %w", algorithm, err)
	}
	return out, nil
}

func verify(key *rsa.PublicKey, algorithm string, digest, signature []byte) (bool, error) {
	hash, pss, err := signatureScheme(algorithm, digest)
	if err != nil {
		return false, err
	}
	if pss {
		return rsa.VerifyPSS(key, hash, digest, signature, nil) == nil, nil
	}
	return rsa.VerifyPKCS1v15(key, hash, digest, signature) == nil, nil
}

func signatureScheme(algorithm string, digest []byte) (hash crypto.Hash, pss bool, err error) {
	switch algorithm {
	case "RS256", "PS256":
		hash = crypto.SHA256
	case "RS384", "PS384":
		hash = crypto.SHA384
	case "RS512", "PS512":
		hash = crypto.SHA512
	default:
		return 0, false, badAlgorithm(algorithm)
	}
	if len(digest) != hash.Size() {
		return 0, false, badParameter("%s signs a digest of %d bytes, not %d.", algorithm, hash.Size(), len(digest))
	}
	return hash, algorithm[0] == 'P', nil
}

func badAlgorithm(algorithm string) *apiError {
	return badParameter("The algorithm %q is not supported by RSA keys for this operation.", algorithm)
}
