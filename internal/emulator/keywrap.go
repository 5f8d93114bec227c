package emulator

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"slices"
)

// Key wrapping by the names of PKCS#11. Microsoft calls the padded wrap of RFC 5649
// so too, in its specification of BYOK.
const (
	ckmKeyWrap    = "CKM_AES_KEY_WRAP"     // RFC 3394
	ckmKeyWrapPad = "CKM_AES_KEY_WRAP_PAD" // RFC 5649
)

// keyWrapIV is the default initial value of RFC 3394, 2.2.3.1.
var keyWrapIV = bytes.Repeat([]byte{0xa6}, 8)

// paddedIV is the alternative initial value of RFC 5649, 3; the length follows it.
var paddedIV = []byte{0xa6, 0x59, 0x59, 0xa6}

func keyWrap(block cipher.Block, plaintext []byte) ([]byte, error) {
	if len(plaintext) < 16 || len(plaintext)%8 != 0 {
		return nil, badParameter("AES key wrap takes at least 16 bytes, a multiple of 8, not %d.", len(plaintext))
	}
	return wrapRounds(block, keyWrapIV, plaintext), nil
}

func keyUnwrap(block cipher.Block, ciphertext []byte) ([]byte, error) {
	if len(ciphertext) < 24 || len(ciphertext)%8 != 0 {
		return nil, badParameter("AES key unwrap takes at least 24 bytes, a multiple of 8, not %d.", len(ciphertext))
	}
	iv, out := unwrapRounds(block, ciphertext)
	if subtle.ConstantTimeCompare(iv, keyWrapIV) != 1 {
		return nil, cannotOpen("AES key wrap")
	}
	return out, nil
}

// keyWrapPadded is RFC 5649, 4.1: up to 8 bytes are one block and no rounds.
func keyWrapPadded(block cipher.Block, plaintext []byte) ([]byte, error) {
	if len(plaintext) == 0 {
		return nil, badParameter("AES key wrap with padding takes at least one byte.")
	}
	iv := binary.BigEndian.AppendUint32(slices.Clone(paddedIV), uint32(len(plaintext)))
	padded := append(slices.Clone(plaintext), make([]byte, -len(plaintext)&7)...)
	if len(padded) > 8 {
		return wrapRounds(block, iv, padded), nil
	}
	out := slices.Concat(iv, padded)
	block.Encrypt(out, out)
	return out, nil
}

// keyUnwrapPadded is RFC 5649, 4.2.
func keyUnwrapPadded(block cipher.Block, ciphertext []byte) ([]byte, error) {
	if len(ciphertext) < 16 || len(ciphertext)%8 != 0 {
		return nil, badParameter("AES key unwrap with padding takes at least 16 bytes, a multiple of 8, not %d.",
			len(ciphertext))
	}
	var iv, out []byte
	if len(ciphertext) == aes.BlockSize {
		opened := make([]byte, aes.BlockSize)
		block.Decrypt(opened, ciphertext)
		iv, out = opened[:8], opened[8:]
	} else {
		iv, out = unwrapRounds(block, ciphertext)
	}
	n := int64(binary.BigEndian.Uint32(iv[4:]))
	fits := n > int64(len(out))-8 && n <= int64(len(out))
	if !bytes.Equal(iv[:4], paddedIV) || !fits || len(bytes.Trim(out[n:], "\x00")) > 0 {
		return nil, cannotOpen(ckmKeyWrapPad)
	}
	return out[:n], nil
}

// wrapRounds is RFC 3394, 2.2.1, the index-based form.
func wrapRounds(block cipher.Block, iv, plaintext []byte) []byte {
	out := slices.Concat(iv, plaintext)
	n := len(plaintext) / 8
	buf := make([]byte, aes.BlockSize)
	copy(buf, iv)
	for t := 1; t <= 6*n; t++ {
		r := out[8*(1+(t-1)%n):][:8]
		copy(buf[8:], r)
		block.Encrypt(buf, buf)
		binary.BigEndian.PutUint64(buf, binary.BigEndian.Uint64(buf)^uint64(t))
		copy(r, buf[8:])
	}
	copy(out, buf[:8])
	return out
}

// unwrapRounds is RFC 3394, 2.2.2; the caller looks at the initial value.
func unwrapRounds(block cipher.Block, ciphertext []byte) (iv, out []byte) {
	out = slices.Clone(ciphertext[8:])
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
	return buf[:8], out
}
