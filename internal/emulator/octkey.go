package emulator

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	_ "crypto/sha512" // HS384, HS512
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// octKey is an AES key. Only a Managed HSM has such keys.
type octKey struct {
	raw   []byte
	block cipher.Block
}

func newOctKey(raw []byte) (material, error) {
	if err := checkOctSize(8 * len(raw)); err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, fmt.Errorf("making an AES key: %w", err)
	}
	return &octKey{raw, block}, nil
}

func checkOctSize(bits int) error {
	if bits != 128 && bits != 192 && bits != 256 {
		return badParameter("oct-HSM keys have 128, 192 or 256 bits, not %d", bits)
	}
	return nil
}

func generateOct(bits int) (material, error) {
	if bits == 0 {
		bits = 256
	}
	if err := checkOctSize(bits); err != nil {
		return nil, err
	}
	raw, err := randomBytes(bits / 8)
	if err != nil {
		return nil, err
	}
	return newOctKey(raw)
}

func randomBytes(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		return nil, fmt.Errorf("reading random bytes: %w", err)
	}
	return b, nil
}

func (k *octKey) family() string { return "oct" }

func (k *octKey) operations() []string {
	return []string{"encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"}
}

func (k *octKey) show(*jsonWebKey) {} // nothing of it is public

func (k *octKey) another() (material, error) { return generateOct(8 * len(k.raw)) }

func (k *octKey) marshal() ([]byte, error) { return slices.Clone(k.raw), nil }

func (k *octKey) verify(algorithm string, value, code []byte) (bool, error) {
	want, err := k.code(algorithm, value)
	return hmac.Equal(want, code), err
}

// code is the HMAC of a value as it arrives: SDKs hash their input first.
func (k *octKey) code(algorithm string, value []byte) ([]byte, error) {
	hash := map[string]crypto.Hash{"HS256": crypto.SHA256, "HS384": crypto.SHA384, "HS512": crypto.SHA512}[algorithm]
	if hash == 0 {
		return nil, badAlgorithm(algorithm, k)
	}
	mac := hmac.New(hash.New, k.raw)
	mac.Write(value)
	return mac.Sum(nil), nil
}

// compute wraps with A*KW, which is also CKM_AES_KEY_WRAP, or CKM_AES_KEY_WRAP_PAD,
// encrypts with A*GCM, A*CBC or A*CBCPAD, where * is the size of the key, and signs
// with HS*.
func (k *octKey) compute(operation string, q operationRequest) (operationResult, error) {
	switch operation + " " + q.Algorithm {
	case "wrap " + ckmKeyWrap:
		return valueOf(keyWrap(k.block, q.Value))
	case "unwrap " + ckmKeyWrap:
		return valueOf(keyUnwrap(k.block, q.Value))
	case "wrap " + ckmKeyWrapPad:
		return valueOf(keyWrapPadded(k.block, q.Value))
	case "unwrap " + ckmKeyWrapPad:
		return valueOf(keyUnwrapPadded(k.block, q.Value))
	}
	if operation == opSign {
		return valueOf(k.code(q.Algorithm, q.Value))
	}
	return k.computeSized(operation, q)
}

func valueOf(value []byte, err error) (operationResult, error) {
	return operationResult{Value: value}, err
}

// computeSized has the algorithms whose names have the key's size.
func (k *octKey) computeSized(operation string, q operationRequest) (operationResult, error) {
	mode, sized := strings.CutPrefix(q.Algorithm, "A"+strconv.Itoa(8*len(k.raw)))
	if !sized {
		return operationResult{}, badAlgorithm(q.Algorithm, k)
	}
	switch operation + " " + mode {
	case "wrap KW":
		return valueOf(keyWrap(k.block, q.Value))
	case "unwrap KW":
		return valueOf(keyUnwrap(k.block, q.Value))
	case "encrypt GCM":
		return k.sealGCM(q)
	case "decrypt GCM":
		return k.openGCM(q)
	case "encrypt CBC", "encrypt CBCPAD":
		return k.encryptCBC(q, mode == "CBCPAD")
	case "decrypt CBC", "decrypt CBCPAD":
		return k.decryptCBC(q, mode == "CBCPAD")
	}
	return operationResult{}, badAlgorithm(q.Algorithm, k)
}

// sealGCM chooses the IV itself, as the HSM does.
func (k *octKey) sealGCM(q operationRequest) (operationResult, error) {
	if len(q.IV) > 0 {
		return operationResult{}, badParameter("%s takes no iv to encrypt: the HSM makes it.", q.Algorithm)
	}
	gcm, err := cipher.NewGCM(k.block)
	if err != nil {
		return operationResult{}, fmt.Errorf("making %s: %w", q.Algorithm, err)
	}
	iv, err := randomBytes(gcm.NonceSize())
	if err != nil {
		return operationResult{}, err
	}
	sealed := gcm.Seal(nil, iv, q.Value, q.AAD)
	split := len(sealed) - gcm.Overhead()
	return operationResult{Value: sealed[:split], IV: iv, Tag: sealed[split:], AAD: q.AAD}, nil
}

func (k *octKey) openGCM(q operationRequest) (operationResult, error) {
	gcm, err := cipher.NewGCM(k.block)
	if err != nil {
		return operationResult{}, fmt.Errorf("making %s: %w", q.Algorithm, err)
	}
	if len(q.IV) != gcm.NonceSize() || len(q.Tag) != gcm.Overhead() {
		return operationResult{}, badParameter("%s needs an iv of %d bytes and a tag of %d.",
			q.Algorithm, gcm.NonceSize(), gcm.Overhead())
	}
	value, err := gcm.Open(nil, q.IV, slices.Concat(q.Value, q.Tag), q.AAD)
	if err != nil {
		return operationResult{}, cannotOpen(q.Algorithm)
	}
	return operationResult{Value: value}, nil
}

func (k *octKey) encryptCBC(q operationRequest, padded bool) (operationResult, error) {
	value := slices.Clone(q.Value)
	if padded {
		n := aes.BlockSize - len(value)%aes.BlockSize
		value = append(value, bytes.Repeat([]byte{byte(n)}, n)...)
	}
	if err := checkCBC(q, value); err != nil {
		return operationResult{}, err
	}
	cipher.NewCBCEncrypter(k.block, q.IV).CryptBlocks(value, value)
	return operationResult{Value: value, IV: q.IV}, nil
}

func (k *octKey) decryptCBC(q operationRequest, padded bool) (operationResult, error) {
	value := slices.Clone(q.Value)
	if err := checkCBC(q, value); err != nil {
		return operationResult{}, err
	}
	cipher.NewCBCDecrypter(k.block, q.IV).CryptBlocks(value, value)
	if !padded {
		return operationResult{Value: value}, nil
	}
	n := int(value[len(value)-1])
	if n == 0 || n > aes.BlockSize || !bytes.Equal(value[len(value)-n:], bytes.Repeat([]byte{byte(n)}, n)) {
		return operationResult{}, cannotOpen(q.Algorithm)
	}
	return operationResult{Value: value[:len(value)-n]}, nil
}

func checkCBC(q operationRequest, blocks []byte) error {
	if len(q.IV) != aes.BlockSize {
		return badParameter("%s needs an iv of %d bytes, not %d.", q.Algorithm, aes.BlockSize, len(q.IV))
	}
	if len(blocks) == 0 || len(blocks)%aes.BlockSize != 0 {
		return badParameter("%s takes whole blocks of %d bytes, not %d bytes.",
			q.Algorithm, aes.BlockSize, len(q.Value))
	}
	return nil
}

func cannotOpen(algorithm string) *apiError {
	return badParameter("The value cannot be opened by this key version with %s.", algorithm)
}
