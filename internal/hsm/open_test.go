package hsm

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"math/big"
	"testing"
)

// rawRSA is what CKM_RSA_X_509 does.
func rawRSA(private *rsa.PrivateKey, ciphertext []byte) []byte {
	m := new(big.Int).Exp(new(big.Int).SetBytes(ciphertext), private.D, private.N)
	return m.FillBytes(make([]byte, private.Size()))
}

func TestUnpadAgreesWithGo(t *testing.T) {
	_, private := newKEK(t, vaultURL)
	for _, n := range []int{0, 1, 32, private.Size() - 2*sha256.Size - 2} {
		secret := make([]byte, n)
		_, _ = rand.Read(secret)
		got, err := unpadOAEP(rawRSA(private, seal(t, &private.PublicKey, secret)))
		if err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%d bytes: %x, %v", n, got, err)
		}
	}
}

func TestUnpadRefusesEverythingElse(t *testing.T) {
	_, private := newKEK(t, vaultURL)
	em := rawRSA(private, seal(t, &private.PublicKey, []byte("secret")))
	for i := range em {
		changed := append([]byte(nil), em...)
		changed[i] ^= 0x80
		if got, err := unpadOAEP(changed); err == nil && bytes.Equal(got, []byte("secret")) {
			t.Fatalf("byte %d changed, and it still opens", i)
		}
	}
	if _, err := unpadOAEP(nil); err == nil {
		t.Error("nothing opens")
	}
	if _, err := unpadOAEP(make([]byte, 256)); err == nil {
		t.Error("zeros open")
	}
}

func FuzzUnpadOAEP(f *testing.F) {
	f.Add(make([]byte, 66))
	f.Add(bytes.Repeat([]byte{1}, 256))
	f.Fuzz(func(t *testing.T, em []byte) {
		got, err := unpadOAEP(append([]byte(nil), em...))
		if err == nil && len(got) > len(em)-2*sha256.Size-2 {
			t.Fatalf("%d bytes out of %d", len(got), len(em))
		}
	})
}
