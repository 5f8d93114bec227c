package proof_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/proof"
)

// side is a vault and an HSM at once. Each may have its own material and its own faults.
type side struct {
	shown, vault, hsm *rsa.PrivateKey
	instead           *key.Material // of shown
	kty               string
	fail              string // the call that gets no answer
	garble            bool   // the vault decrypts to something else
	expires           time.Time
	skew              time.Duration
}

func (s *side) ClockSkew() (time.Duration, bool) { return s.skew, true }

var errDown = errors.New("no answer")

func (s *side) trouble(call string) error {
	if s.fail == call {
		return errDown
	}
	return nil
}

func (s *side) Get(context.Context, string, string) (key.Version, error) {
	m, err := key.FromRSA(&s.shown.PublicKey)
	if err != nil {
		return key.Version{}, err
	}
	if s.instead != nil {
		m = *s.instead
	}
	return key.Version{Material: m, Kty: s.kty, Expires: s.expires}, s.trouble("get")
}

func (s *side) Wrap(_ context.Context, _, _ string, plain []byte) ([]byte, error) {
	if err := s.trouble("wrap"); err != nil {
		return nil, err
	}
	return rsa.EncryptOAEP(sha256.New(), rand.Reader, &s.vault.PublicKey, plain, nil)
}

func (s *side) Unwrap(_ context.Context, _, _ string, c []byte) ([]byte, error) {
	if err := s.trouble("unwrap"); err != nil {
		return nil, err
	}
	if s.garble {
		return bytes.Repeat([]byte{1}, 32), nil
	}
	return rsa.DecryptOAEP(sha256.New(), nil, s.vault, c, nil)
}

func (s *side) Encrypt(ctx context.Context, n, v string, p []byte) ([]byte, error) {
	return s.Wrap(ctx, n, v, p)
}

func (s *side) Decrypt(ctx context.Context, n, v string, c []byte) ([]byte, error) {
	return s.Unwrap(ctx, n, v, c)
}

func (s *side) Sign(_ context.Context, _, _ string, digest []byte) ([]byte, error) {
	if err := s.trouble("sign"); err != nil {
		return nil, err
	}
	return rsa.SignPKCS1v15(rand.Reader, s.vault, crypto.SHA256, digest)
}

func (s *side) Opens(_ context.Context, _ key.ID, c []byte, sum [32]byte) (bool, error) {
	if err := s.trouble("opens"); err != nil {
		return false, err
	}
	plain, err := rsa.DecryptOAEP(sha256.New(), nil, s.hsm, c, nil)
	return err == nil && sha256.Sum256(plain) == sum, nil
}

func TestAProofEndsAtTheFirstLegThatDoesNotPass(t *testing.T) {
	pair := func() *rsa.PrivateKey {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	ours, other := pair(), pair()
	unsupported := key.UnsupportedMaterial()
	now := time.Now()
	wrap, crypt, sign := []key.Operation{
		key.WrapKey, key.UnwrapKey,
	}, []key.Operation{
		key.Encrypt, key.Decrypt,
	}, []key.Operation{
		key.Sign, key.Verify,
	}
	for _, c := range []struct {
		name string
		side side
		ops  []key.Operation
		lost bool
		may  bool // have expired
		want key.Outcome
		leg  proof.Leg
	}{
		{name: "all is well", ops: wrap, want: key.Passed},
		{name: "encrypting is proven like wrapping", ops: crypt, want: key.Passed},
		{name: "a signing key signs", ops: sign, want: key.Passed},
		{name: "another modulus", side: side{shown: other}, ops: wrap, want: key.WasRefuted, leg: proof.LegModulus},
		{name: "the vault shows no public key", side: side{instead: &key.Material{}}, ops: wrap,
			want: key.Inconclusive, leg: proof.LegModulus},
		{name: "the vault shows a key of another family", side: side{instead: &unsupported, kty: "EC-HSM"}, ops: wrap,
			want: key.Inconclusive, leg: proof.LegModulus},
		{name: "a software key", side: side{kty: "RSA"}, ops: wrap, want: key.WasRefuted, leg: proof.LegType},
		{
			name: "the vault opens to something else", side: side{garble: true}, ops: wrap,
			want: key.WasRefuted, leg: proof.LegUnwrap,
		},
		{name: "the HSM has another pair", side: side{hsm: other}, ops: wrap, want: key.WasRefuted, leg: proof.LegHSM},
		{
			name: "the vault signs with another key", side: side{vault: other}, ops: sign, want: key.WasRefuted,
			leg: proof.LegSign,
		},
		{
			name: "the vault cannot open", side: side{vault: other}, ops: wrap, want: key.Inconclusive,
			leg: proof.LegUnwrap,
		},
		{
			name: "get does not answer", side: side{fail: "get"}, ops: wrap, want: key.Inconclusive,
			leg: proof.LegModulus,
		},
		{
			name: "unwrap does not answer", side: side{fail: "unwrap"}, ops: wrap, want: key.Inconclusive,
			leg: proof.LegUnwrap,
		},
		{name: "wrap does not answer", side: side{fail: "wrap"}, ops: wrap, want: key.Inconclusive, leg: proof.LegWrap},
		{
			name: "the HSM does not answer", side: side{fail: "opens"}, ops: wrap, want: key.Inconclusive,
			leg: proof.LegHSM,
		},
		{name: "sign does not answer", side: side{fail: "sign"}, ops: sign, want: key.Inconclusive, leg: proof.LegSign},
		{name: "no operations to prove by", ops: wrap[:1], want: key.Inconclusive, leg: proof.LegModulus},
		{
			name: "a pair that the HSM lost is proven by the vault alone", side: side{fail: "opens"}, ops: wrap,
			lost: true, want: key.Passed,
		},
		{
			name: "an expired newest must still wrap", side: side{fail: "wrap", expires: now.Add(-time.Hour)},
			ops: wrap, want: key.Inconclusive, leg: proof.LegWrap,
		},
		{
			name: "an expired older one need not wrap", side: side{fail: "wrap", expires: now.Add(-time.Hour)},
			ops: wrap, may: true, want: key.Passed,
		},
		{
			name: "one that expires later must", side: side{fail: "wrap", expires: now.Add(time.Hour)},
			ops: wrap, may: true, want: key.Inconclusive, leg: proof.LegWrap,
		},
		{
			name: "one that expires later, and by the vault's clock has, need not",
			side: side{fail: "wrap", expires: now.Add(time.Hour), skew: 2 * time.Hour}, ops: wrap, may: true,
			want: key.Passed,
		},
		{
			name: "one that expired, and by the vault's clock has not, must",
			side: side{fail: "wrap", expires: now.Add(-time.Hour), skew: -2 * time.Hour}, ops: wrap, may: true,
			want: key.Inconclusive, leg: proof.LegWrap,
		},
		{
			name: "an expired one is opened all the same",
			side: side{fail: "unwrap", expires: now.Add(-time.Hour)}, ops: crypt, may: true,
			want: key.Inconclusive, leg: proof.LegUnwrap,
		},
		{
			name: "an expired one is opened by the HSM", side: side{hsm: other, expires: now.Add(-time.Hour)},
			ops: wrap, may: true, want: key.WasRefuted, leg: proof.LegHSM,
		},
		{
			name: "an expired signing key need not sign",
			side: side{fail: "sign", expires: now.Add(-time.Hour)}, ops: sign, may: true, want: key.Passed,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.side
			for _, k := range []**rsa.PrivateKey{&s.shown, &s.vault, &s.hsm} {
				if *k == nil {
					*k = ours
				}
			}
			if s.kty == "" {
				s.kty = "RSA-HSM"
			}
			pinned, err := key.FromRSA(&ours.PublicKey)
			if err != nil {
				t.Fatal(err)
			}
			got := proof.Prove(
				t.Context(),
				&s,
				&s,
				proof.Subject{
					Key:            "k",
					Version:        "v",
					Fingerprint:    pinned.Fingerprint(),
					Operations:     c.ops,
					LostInHSM:      c.lost,
					MayHaveExpired: c.may,
					Now:            now,
				},
			)
			if got.Outcome != c.want || got.Leg != c.leg {
				t.Errorf("%s at %q (%v), want %s at %q", got.Outcome, got.Leg, got.Err, c.want, c.leg)
			}
			if (got.Err == nil) != (c.want == key.Passed) {
				t.Errorf("error %v with outcome %s", got.Err, got.Outcome)
			}
		})
	}
}
