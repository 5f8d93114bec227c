package emulator

import (
	"bytes"
	"crypto/aes"
	"encoding/hex"
	"testing"
)

// RFC 3394, section 4.6: 256 bits of data with a 256-bit key.
func TestKeyWrapFollowsItsRFC(t *testing.T) {
	decode := func(s string) []byte { return unhex(t, s) }
	block, err := aes.NewCipher(decode("000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F"))
	if err != nil {
		t.Fatal(err)
	}
	data := decode("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F")
	wrapped, err := keyWrap(block, data)
	if err != nil {
		t.Fatal(err)
	}
	want := decode("28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21")
	if !bytes.Equal(wrapped, want) {
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

// RFC 5649, section 6: 20 and 7 bytes with a 192-bit key.
func TestPaddedKeyWrapFollowsItsRFC(t *testing.T) {
	block, err := aes.NewCipher(unhex(t, "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8"))
	check(t, err)
	for _, vector := range []struct{ data, wrapped string }{
		{"c37b7e6492584340bed12207808941155068f738",
			"138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a"},
		{"466f7250617369", "afbeb0f07dfbf5419200f2ccb50bb24f"},
	} {
		wrapped, err := keyWrapPadded(block, unhex(t, vector.data))
		check(t, err)
		if hex.EncodeToString(wrapped) != vector.wrapped {
			t.Errorf("%s became %x", vector.data, wrapped)
		}
		opened, err := keyUnwrapPadded(block, wrapped)
		if check(t, err); hex.EncodeToString(opened) != vector.data {
			t.Errorf("unwrapped %x", opened)
		}
		wrapped[5] ^= 1
		if _, err := keyUnwrapPadded(block, wrapped); err == nil {
			t.Error("a changed ciphertext was opened")
		}
	}
}

// RFC 5649, 3: the length must leave fewer than 8 bytes of padding, all of them zero.
func TestPaddedKeyUnwrapChecksThePadding(t *testing.T) {
	block, err := aes.NewCipher(make([]byte, 32))
	check(t, err)
	data := append([]byte("12345678901234567"), make([]byte, 7)...)
	for n, opens := range map[byte]bool{16: false, 17: true, 18: true, 24: true, 25: false} {
		_, err := keyUnwrapPadded(block, wrapRounds(block, []byte{0xa6, 0x59, 0x59, 0xa6, 0, 0, 0, n}, data))
		if (err == nil) != opens {
			t.Errorf("length %d: %v", n, err)
		}
	}
	data[20] = 1
	if _, err := keyUnwrapPadded(block,
		wrapRounds(block, []byte{0xa6, 0x59, 0x59, 0xa6, 0, 0, 0, 17}, data)); err == nil {
		t.Error("padding that is not zero was taken")
	}
}

// The data of RFC 4231, 4.2, with a key of a size that a Managed HSM has; the result is from openssl dgst -mac HMAC.
func TestSymmetricKeysSign(t *testing.T) {
	m, err := newOctKey(unhex(t, "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b"))
	check(t, err)
	for algorithm, want := range map[string]string{
		"HS256": "492ce020fe2534a5789dc3848806c78f4f6711397f08e7e7a12ca5a4483c8aa6",
		"HS384": "7afaa633e20d379b02395915fbc385ff8dc27dcd3885e1068ab942eeab52ec1f20ad382a92370d8b2e0ac8b83c4d53bf",
		"HS512": "7641c48a3b4aa8f887c07b3e83f96affb89c978fed8c96fcbbf4ad596eebfe49" +
			"6f9f16da6cd080ba393c6f365ad72b50d15c71bfb1d6b81f66a911786c6ce932",
	} {
		signed, err := m.compute(opSign, operationRequest{Algorithm: algorithm, Value: []byte("Hi There")})
		if check(t, err); hex.EncodeToString(signed.Value) != want {
			t.Errorf("%s: %x", algorithm, []byte(signed.Value))
		}
		for text, good := range map[string]bool{"Hi There": true, "Hi There!": false} {
			if ok, err := m.verify(algorithm, []byte(text), signed.Value); err != nil || ok != good {
				t.Errorf("%s of %q: %v, %v", algorithm, text, ok, err)
			}
		}
	}
	if _, err := m.verify("RS256", nil, nil); err == nil {
		t.Error("RS256 was taken")
	}
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	check(t, err)
	return b
}
