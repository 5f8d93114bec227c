package hsm

import (
	"context"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
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

// Whatever the other process answers, each call returns a usable answer or an error with a class.
func FuzzAnswers(f *testing.F) {
	const id = key.ID("00112233445566778899aabbccddeeff")
	for _, seed := range []response{
		{Result: []byte(`{"material":"` + wireKey(f, big.NewInt(5), 3) + `"}`)},
		{Result: []byte(`{"material":"unreadable"}`)},
		{Result: []byte(`{"material":""}`)},
		{Result: []byte(`{"public":{"N":5,"E":3}}`)},
		{Result: []byte(`{"objects":[{"id":"00112233445566778899aabbccddeeff","complete":true}]}`), More: true},
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
		for call := range uint8(12) {
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
		switch call % 13 {
		case 0:
			_, err = c.Describe(ctx)
		case 1:
			_, err = c.Inventory(ctx)
		case 2:
			err = c.Generate(ctx, id, "a", 1, key.RSA2048, "")
		case 3:
			var m key.Material
			if m, err = c.PublicKey(ctx, id); err == nil {
				if _, ok := m.RSA(); !ok || m.Matches(m.Fingerprint()) != key.MatchYes {
					t.Errorf("a public key that cannot be used: %+v", m)
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
			_, _, err = c.SignCheckpoint(ctx, entries(1, 3).after(nil))
		case 10:
			_, err = c.Find(ctx, id)
		case 11:
			err = c.MayGenerate(ctx, "a", 1, key.RSA2048)
		case 12:
			err = c.Follow(ctx, entries(1, 3).page(1, 3))
		}
		if errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a call waited for an answer that cannot come: %v", err)
		}
	})
}

// The HSM side trusts no KEK but a strong public key, and sees each key under one fingerprint only.
func FuzzKEK(f *testing.F) {
	odd := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 2048), big.NewInt(1))
	for _, material := range []string{
		`null`, `""`, `"unreadable"`, `"unsupported"`, `"known"`, `{"N":5,"E":3}`,
		`"` + wireKey(f, big.NewInt(5), 3) + `"`, `"` + wireKey(f, big.NewInt(-5), 65537) + `"`,
		`"` + wireKey(f, odd, 65537) + `"`, `"` + wireKey(f, odd, 1) + `"`,
		`"` + wireKey(f, new(big.Int).Neg(odd), 65537) + `"`,
	} {
		f.Add(
			[]byte(
				`{"vault":"` + vaultURL + `","kid":"` + vaultURL + `/keys/keyd-kek/0","material":` + material + `}`,
			),
		)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var kek key.KEK
		if decodeStrict(text, &kek) != nil {
			return
		}
		tr := &trust{path: filepath.Join(t.TempDir(), "absent.json"), now: time.Now}
		if _, err := tr.check(kek, pinned()); err != nil {
			if key.ClassOf(err) != key.Refused {
				t.Errorf("class %s: %v", key.ClassOf(err), err)
			}
			return
		}
		pub := rsaOf(kek.Material)
		if bits := pub.N.BitLen(); pub.N.Sign() <= 0 || pub.E != 65537 || bits < 2048 || bits > 4096 {
			t.Errorf("trusted %d bits with exponent %d", bits, pub.E)
		}
		again, err := json.Marshal(kek)
		var same key.KEK
		if err != nil || decodeStrict(again, &same) != nil || same != kek {
			t.Errorf("what was trusted is sent on as %s (%v)", again, err)
		}
	})
}

// wireKey is an RSA key as the protocol encodes it, including keys that key.Material refuses.
func wireKey(tb testing.TB, n *big.Int, e int) string {
	tb.Helper()
	key, err1 := asn1.Marshal(struct {
		N *big.Int
		E int
	}{n, e})
	spki, err2 := asn1.Marshal(struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}{
		pkix.AlgorithmIdentifier{
			Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, Parameters: asn1.NullRawValue,
		},
		asn1.BitString{Bytes: key, BitLength: 8 * len(key)},
	})
	if err := errors.Join(err1, err2); err != nil {
		tb.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(spki)
}
