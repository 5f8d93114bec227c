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

// failing is a real module whose next decryptions fail, and those of one ciphertext.
type failing struct {
	module
	next *atomic.Int64
	with pkcs11.Error
	that *[]byte // decryptions of this fail; nil: of none
}

func (f failing) Decrypt(s pkcs11.SessionHandle, ciphertext []byte) ([]byte, error) {
	out, err := f.module.Decrypt(s, ciphertext)
	if f.next.Add(-1) >= 0 || *f.that != nil && bytes.Equal(ciphertext, *f.that) {
		return nil, f.with
	}
	return out, err
}

func TestAFailingTokenIsNeverTakenForAWrongKey(t *testing.T) {
	for name, c := range map[string]struct {
		failures int64 // of any decryption
		with     pkcs11.Error
		that     bool // this ciphertext's decryptions fail
		want     string
	}{
		"a decryption fails once":      {1, pkcs11.CKR_GENERAL_ERROR, false, "yes, mended"},
		"it once says the data is bad": {1, pkcs11.CKR_ENCRYPTED_DATA_INVALID, false, "yes, mended"},
		"only this ciphertext fails":   {0, pkcs11.CKR_GENERAL_ERROR, true, "no"},
		"everything fails":             {1000, pkcs11.CKR_GENERAL_ERROR, false, "an error, and the process ends"},
		"the login is lost":            {1, pkcs11.CKR_USER_NOT_LOGGED_IN, false, "an error, and the process ends"},
		"the token is taken out":       {1, pkcs11.CKR_DEVICE_REMOVED, false, "an error, and the process ends"},
		"a session is lost":            {1, pkcs11.CKR_SESSION_CLOSED, false, "yes, mended"},
		"a handle is lost":             {1, pkcs11.CKR_KEY_HANDLE_INVALID, false, "yes, mended"},
		"its new handle is lost too":   {2, pkcs11.CKR_KEY_HANDLE_INVALID, false, "an error"},
	} {
		t.Run(name, func(t *testing.T) {
			var next atomic.Int64
			var that []byte
			e := inProcess(t, func(m module) module { return failing{m, &next, c.with, &that} })
			id := newID(t)
			if err := e.Generate(t.Context(), id, "sa-cmk-key", 1, key.RSA2048, ""); err != nil {
				t.Fatal(err)
			}
			pub, err := e.PublicKey(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			e.tok.mended = func(string, error) { got = ", mended" }
			ciphertext := seal(t, pub, []byte("x"))
			if c.that {
				that = ciphertext
			}
			next.Store(c.failures)
			yes, err := e.Opens(t.Context(), id, ciphertext, sha256.Sum256([]byte("x")))
			switch {
			case err != nil:
				got = "an error"
			case yes:
				got = "yes" + got
			default:
				got = "no" + got
			}
			if e.tok.isDead() {
				got += ", and the process ends"
			}
			if got != c.want {
				t.Errorf("got %s, want %s (%v)", got, c.want, err)
			}
		})
	}
}
