package hsm

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"testing"

	"github.com/keyd-project/keyd/internal/key"
)

// BenchmarkOpens shows what the hop between the processes costs: the same call
// inside the process and through the protocol.
func BenchmarkOpens(b *testing.B) {
	b.Run("direct", func(b *testing.B) {
		e := inProcess(b, func(m module) module { return m })
		benchOpens(b, e, func(id key.ID) (*rsa.PublicKey, error) { return e.PublicKey(b.Context(), id) })
	})
	b.Run("through the protocol", func(b *testing.B) {
		r := newRig(b)
		benchOpens(b, r.Client, func(id key.ID) (*rsa.PublicKey, error) { return r.PublicKey(b.Context(), id) })
	})
}

type openCalls interface {
	Generate(ctx context.Context, id key.ID, name string, number int, spec key.Spec) error
	Opens(ctx context.Context, id key.ID, ciphertext []byte, sum [32]byte) (bool, error)
}

func benchOpens(b *testing.B, c openCalls, public func(key.ID) (*rsa.PublicKey, error)) {
	b.Helper()
	id := newID(b)
	if err := c.Generate(b.Context(), id, "bench", 1, key.RSA2048); err != nil {
		b.Fatal(err)
	}
	pub, err := public(id)
	if err != nil {
		b.Fatal(err)
	}
	secret := []byte("secret")
	ciphertext, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, pub, secret, nil)
	if err != nil {
		b.Fatal(err)
	}
	sum := sha256.Sum256(secret)
	for b.Loop() {
		if yes, err := c.Opens(b.Context(), id, ciphertext, sum); err != nil || !yes {
			b.Fatal(yes, err)
		}
	}
}
