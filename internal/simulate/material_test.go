package simulate

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	mathrand "math/rand/v2"
	"testing"

	"github.com/keyd-project/keyd/internal/key"
)

func TestAModelKeyIsAnRSAKey(t *testing.T) {
	rnd := mathrand.New(mathrand.NewPCG(1, 1))
	primes := NewPrimes()
	for _, spec := range key.Specs() {
		m := primes.draw(rnd, spec.Bits())
		if got := m.pub.N.BitLen(); got != spec.Bits() {
			t.Errorf("%s: the modulus has %d bits", spec, got)
		}
		secret := []byte("what consumers wrap")
		c, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, m.pub, secret, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := m.open(c); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%s: opened to %q, %v", spec, got, err)
		}
		if _, err := primes.draw(rnd, spec.Bits()).open(c); err == nil {
			t.Errorf("%s: another key opens it", spec)
		}
		digest := sha256.Sum256(secret)
		if err := rsa.VerifyPKCS1v15(m.pub, crypto.SHA256, digest[:], m.sign(digest[:])); err != nil {
			t.Errorf("%s: %v", spec, err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	m := NewPrimes().draw(mathrand.New(mathrand.NewPCG(1, 1)), 2048)
	c, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, m.pub, []byte("x"), nil)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := m.open(c); err != nil {
			b.Fatal(err)
		}
	}
}
