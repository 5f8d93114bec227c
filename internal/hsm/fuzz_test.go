package hsm

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"math/big"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/key"
)

// Whatever the process at the other end answers, each call ends with an error of a
// class or with an answer that can be used.
func FuzzAnswers(f *testing.F) {
	const id = key.ID("00112233445566778899aabbccddeeff")
	for _, seed := range []response{
		{Result: []byte(`{"public":{"N":5,"E":3}}`)},
		{Result: []byte(`{"public":{"N":null,"E":0}}`)},
		{Result: []byte(`{"objects":[{"id":"00112233445566778899aabbccddeeff","complete":true}],"more":true}`)},
		{Result: []byte(`{"ciphertext":"AA=="}`)},
		{Error: &wireError{Code: Hung, Class: "retry", Message: "m"}},
		{Error: &wireError{Code: Internal, Class: "fatal", Message: "the end"}},
		{Result: []byte(`{}`)},
		{Result: []byte{1}},
	} {
		frame, err := seed.encode()
		if err != nil {
			f.Fatal(err)
		}
		for call := range uint8(10) {
			f.Add(call, frame)
		}
	}
	f.Fuzz(func(t *testing.T, call uint8, answer []byte) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			if _, err := readFrame(theirs); err == nil {
				_, _ = theirs.Write(answer)
			}
		}()
		defer ours.Close()
		c := newClient(fixed{ours}, Timeouts{}, newMetrics(prometheus.NewRegistry()))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var err error
		switch call % 10 {
		case 0:
			_, err = c.Describe(ctx)
		case 1:
			_, err = c.Inventory(ctx)
		case 2:
			err = c.Generate(ctx, id, "a", 1, key.RSA2048)
		case 3:
			var pub *rsa.PublicKey
			if pub, err = c.PublicKey(ctx, id); err == nil {
				_, err = key.FingerprintOf(pub)
				if err != nil {
					t.Errorf("a public key that cannot be used: %v", err)
				}
			}
		case 4:
			_, err = c.WrapFor(ctx, id, key.KEK{Vault: "v", Kid: "k"})
		case 5:
			_, err = c.Opens(ctx, id, nil, [32]byte{})
		case 6:
			err = c.Destroy(ctx, id)
		case 7:
			_, _, err = c.AuditKey(ctx)
		case 8:
			_, err = c.MakeAuditKey(ctx)
		case 9:
			_, err = c.SignCheckpoint(ctx, checkpoint())
		}
		if errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a call waited for an answer that cannot come: %v", err)
		}
	})
}

// Whatever the network side calls a KEK, only a public key that protects is
// trusted, and nothing is trusted twice under two fingerprints.
func FuzzKEK(f *testing.F) {
	f.Add([]byte(`{"vault":"` + vaultURL + `","kid":"k","public":{"N":5,"E":3}}`))
	f.Add([]byte(`{"vault":"` + vaultURL + `","kid":"k","public":{"N":-5,"E":65537}}`))
	f.Add([]byte(`{"vault":"` + vaultURL + `","kid":"k","public":null}`))
	odd := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 2048), big.NewInt(1))
	for _, pub := range []rsa.PublicKey{{N: odd, E: 65537}, {N: odd, E: 1}, {N: new(big.Int).Neg(odd), E: 65537}} {
		text, err := json.Marshal(key.KEK{Vault: vaultURL, Kid: "k", Public: &pub})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var kek key.KEK
		if decodeStrict(text, &kek) != nil {
			return
		}
		tr := &trust{path: filepath.Join(t.TempDir(), "absent.json"), now: time.Now,
			pins: func(string) ([]key.Fingerprint, error) { return nil, nil }}
		if _, err := tr.check(kek); err != nil {
			if key.ClassOf(err) != key.Refused {
				t.Errorf("class %s: %v", key.ClassOf(err), err)
			}
			return
		}
		if bits := kek.Public.N.BitLen(); kek.Public.N.Sign() <= 0 || kek.Public.E != 65537 || bits < 2048 || bits > 4096 {
			t.Errorf("trusted %d bits with exponent %d", bits, kek.Public.E)
		}
	})
}
