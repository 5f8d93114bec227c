package proof_test

import (
	"crypto/rand"
	"crypto/rsa"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/proof"
)

// provenTwice proves a version and, after a change, proves it again with what the first proof was shown.
func provenTwice(t *testing.T, s *side, change func(*proof.Subject)) (first, second proof.Result) {
	t.Helper()
	ours, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s.shown, s.vault, s.hsm, s.kty = ours, ours, ours, "RSA-HSM"
	pinned, err := key.FromRSA(&ours.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	subject := proof.Subject{Key: "k", Version: "v", Fingerprint: pinned.Fingerprint(), Now: time.Now(),
		Operations: []key.Operation{key.WrapKey, key.UnwrapKey}}
	if first = proof.Prove(t.Context(), s, s, subject); first.Shown == nil {
		t.Fatalf("the first proof shows no version: %+v", first)
	}
	subject.Shown = first.Shown
	change(&subject)
	return first, proof.Prove(t.Context(), s, s, subject)
}

func TestAProofDoesNotAskAgainForWhatNeverChanges(t *testing.T) {
	s := &side{}
	first, second := provenTwice(t, s, func(*proof.Subject) { s.fail = "get" })
	if second.Outcome != key.Passed || len(second.Passed) != len(first.Passed) || second.Shown == nil {
		t.Errorf("%+v", second)
	}
}

func TestAProofThatAsksForNothingStillProvesTheMaterial(t *testing.T) {
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*side, *proof.Subject)
		want   key.Outcome
		leg    proof.Leg
	}{
		"the vault holds another pair": {func(s *side, _ *proof.Subject) { s.vault = other }, key.Inconclusive,
			proof.LegUnwrap},
		"the vault opens to something else": {func(s *side, _ *proof.Subject) { s.garble = true }, key.WasRefuted,
			proof.LegUnwrap},
		"the HSM holds another pair": {func(s *side, _ *proof.Subject) { s.hsm = other }, key.WasRefuted, proof.LegHSM},
		"another generation was pinned": {func(_ *side, p *proof.Subject) { p.Fingerprint = "sha256:00" },
			key.WasRefuted, proof.LegModulus},
	} {
		s := &side{}
		_, r := provenTwice(t, s, func(p *proof.Subject) { c.change(s, p) })
		if r.Outcome != c.want || r.Leg != c.leg || r.Shown != nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestTheExpiryDateThatWasShownCounts(t *testing.T) {
	s := &side{expires: time.Now().Add(time.Hour)}
	_, r := provenTwice(t, s, func(p *proof.Subject) {
		s.fail = "wrap"
		p.MayHaveExpired, p.Now = true, time.Now().Add(2*time.Hour)
	})
	if r.Outcome != key.Passed {
		t.Errorf("%+v", r)
	}
}
