package emulator

import (
	"bytes"
	"crypto/aes"
	"encoding/hex"
	"testing"
)

// RFC 3394, section 4.6: 256 bits of data with a 256-bit key.
func TestKeyWrapFollowsItsRFC(t *testing.T) {
	decode := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	block, err := aes.NewCipher(decode("000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F"))
	if err != nil {
		t.Fatal(err)
	}
	data := decode("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F")
	wrapped, err := keyWrap(block, data)
	if err != nil {
		t.Fatal(err)
	}
	if want := decode("28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21"); !bytes.Equal(wrapped, want) {
		t.Errorf("got %X", wrapped)
	}
	if opened, err := keyUnwrap(block, wrapped); err != nil || !bytes.Equal(opened, data) {
		t.Errorf("unwrapped %X, %v", opened, err)
	}
	wrapped[5] ^= 1
	if _, err := keyUnwrap(block, wrapped); err == nil {
		t.Error("a changed ciphertext was opened")
	}
}
