package emulator

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// octKey is an AES key; a Managed HSM alone has such keys.
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
	return []string{"encrypt", "decrypt", "wrapKey", "unwrapKey"}
}

func (k *octKey) show(*jsonWebKey) {} // nothing of it is public

func (k *octKey) another() (material, error) { return generateOct(8 * len(k.raw)) }

func (k *octKey) marshal() ([]byte, error) { return slices.Clone(k.raw), nil }

func (k *octKey) verify(algorithm string, _, _ []byte) (bool, error) {
	return false, badAlgorithm(algorithm, k)
}

// compute wraps with A*KW, and encrypts with A*GCM, A*CBC or A*CBCPAD, where *
// is the size of the key.
func (k *octKey) compute(operation string, q operationRequest) (operationResult, error) {
	mode, sized := strings.CutPrefix(q.Algorithm, "A"+strconv.Itoa(8*len(k.raw)))
	if !sized {
		return operationResult{}, badAlgorithm(q.Algorithm, k)
	}
	switch operation + " " + mode {
	case "wrap KW":
		value, err := keyWrap(k.block, q.Value)
		return operationResult{Value: value}, err
	case "unwrap KW":
		value, err := keyUnwrap(k.block, q.Value)
		return operationResult{Value: value}, err
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
		return operationResult{}, badParameter("%s needs an iv of %d bytes and a tag of %d.", q.Algorithm, gcm.NonceSize(), gcm.Overhead())
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
		return badParameter("%s takes whole blocks of %d bytes, not %d bytes.", q.Algorithm, aes.BlockSize, len(q.Value))
	}
	return nil
}

func cannotOpen(algorithm string) *apiError {
	return badParameter("The value cannot be opened by this key version with %s.", algorithm)
}

// keyWrapIV is the default initial value of RFC 3394, 2.2.3.1.
var keyWrapIV = bytes.Repeat([]byte{0xa6}, 8)

// keyWrap is RFC 3394, 2.2.1, the index-based form.
func keyWrap(block cipher.Block, plaintext []byte) ([]byte, error) {
	if len(plaintext) < 16 || len(plaintext)%8 != 0 {
		return nil, badParameter("AES key wrap takes at least 16 bytes, a multiple of 8, not %d.", len(plaintext))
	}
	out := slices.Concat(keyWrapIV, plaintext)
	n := len(plaintext) / 8
	buf := make([]byte, aes.BlockSize)
	copy(buf, keyWrapIV)
	for t := 1; t <= 6*n; t++ {
		r := out[8*(1+(t-1)%n):][:8]
		copy(buf[8:], r)
		block.Encrypt(buf, buf)
		binary.BigEndian.PutUint64(buf, binary.BigEndian.Uint64(buf)^uint64(t))
		copy(r, buf[8:])
	}
	copy(out, buf[:8])
	return out, nil
}

// keyUnwrap is RFC 3394, 2.2.2.
func keyUnwrap(block cipher.Block, ciphertext []byte) ([]byte, error) {
	if len(ciphertext) < 24 || len(ciphertext)%8 != 0 {
		return nil, badParameter("AES key unwrap takes at least 24 bytes, a multiple of 8, not %d.", len(ciphertext))
	}
	out := slices.Clone(ciphertext[8:])
	n := len(out) / 8
	buf := make([]byte, aes.BlockSize)
	copy(buf, ciphertext[:8])
	for t := 6 * n; t >= 1; t-- {
		r := out[8*((t-1)%n):][:8]
		binary.BigEndian.PutUint64(buf, binary.BigEndian.Uint64(buf)^uint64(t))
		copy(buf[8:], r)
		block.Decrypt(buf, buf)
		copy(r, buf[8:])
	}
	if subtle.ConstantTimeCompare(buf[:8], keyWrapIV) != 1 {
		return nil, cannotOpen("AES key wrap")
	}
	return out, nil
}
