package hsm

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"math/big"
	"sync/atomic"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/keyd-project/keyd/internal/key"
)

// rawRSA does what CKM_RSA_X_509 does.
func rawRSA(private *rsa.PrivateKey, ciphertext []byte) []byte {
	m := new(big.Int).Exp(new(big.Int).SetBytes(ciphertext), private.D, private.N)
	return m.FillBytes(make([]byte, private.Size()))
}

func TestUnpadAgreesWithGo(t *testing.T) {
	_, private := newKEK(t, vaultURL)
	for _, n := range []int{0, 1, 32, private.Size() - 2*sha256.Size - 2} {
		secret := make([]byte, n)
		_, _ = rand.Read(secret)
		got, err := unpadOAEP(rawRSA(private, seal(t, materialOf(&private.PublicKey), secret)))
		if err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%d bytes: %x, %v", n, got, err)
		}
	}
}

func TestUnpadRefusesEverythingElse(t *testing.T) {
	_, private := newKEK(t, vaultURL)
	em := rawRSA(private, seal(t, materialOf(&private.PublicKey), []byte("secret")))
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

// failing is a real module whose next decryptions return CKR_GENERAL_ERROR.
type failing struct {
	module
	next *atomic.Int64
}

func (f failing) Decrypt(s pkcs11.SessionHandle, ciphertext []byte) ([]byte, error) {
	out, err := f.module.Decrypt(s, ciphertext)
	if f.next.Add(-1) >= 0 {
		return nil, pkcs11.Error(pkcs11.CKR_GENERAL_ERROR)
	}
	return out, err
}

func TestAFailingTokenIsNeverTakenForAWrongKey(t *testing.T) {
	for name, c := range map[string]struct {
		failures int64
		isNo     bool
	}{
		"only this ciphertext fails": {1, true},
		"everything fails":           {1000, false},
	} {
		t.Run(name, func(t *testing.T) {
			var next atomic.Int64
			e := inProcess(t, func(m module) module { return failing{m, &next} })
			id := newID(t)
			if err := e.Generate(t.Context(), id, "sa-cmk-key", 1, key.RSA2048, ""); err != nil {
				t.Fatal(err)
			}
			pub, err := e.PublicKey(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			next.Store(c.failures)
			yes, err := e.Opens(t.Context(), id, seal(t, pub, []byte("x")), sha256.Sum256([]byte("x")))
			if yes || (err == nil) != c.isNo {
				t.Errorf("got %v, %v", yes, err)
			}
			if e.tok.isDead() == c.isNo {
				t.Errorf("the process ends: %v", e.tok.isDead())
			}
		})
	}
}
