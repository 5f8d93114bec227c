package hsm

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"math/big"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/keyd-project/keyd/internal/key"
)

func TestDescribeNamesTheTokenAndItsMechanisms(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	info, err := r.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.Token != r.tok.Label || info.Wrap == "" || info.Open == "" || info.Degraded != "" || info.Serial == "" {
		t.Errorf("described as %+v", info)
	}
	t.Logf("%+v", info)
}

func TestGenerateReadsBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for n, spec := range key.Specs()[:2] {
		id := newID(t)
		if err := r.Generate(t.Context(), id, "sa-cmk-key", n+1, spec, ""); err != nil {
			t.Fatal(err)
		}
		m, err := r.PublicKey(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if pub := rsaOf(m); m.Spec() != spec || pub.N.BitLen() != spec.Bits() || pub.E != 65537 {
			t.Errorf("%s came out with %d bits, exponent %d", spec, pub.N.BitLen(), pub.E)
		}
		wantCode(t, r.Generate(t.Context(), id, "sa-cmk-key", n+1, spec, ""), Exists, key.Refused)
	}
	objects, err := r.Inventory(t.Context())
	if err != nil || len(objects) != 2 {
		t.Fatalf("inventory: %v, %v", objects, err)
	}
	for _, o := range objects {
		if !o.Complete || !o.Label.Pending || o.Label.Key != "sa-cmk-key" || o.Label.Instance != "test" ||
			!o.Material.Known() {
			t.Errorf("inventory shows %+v", o)
		}
	}
}

func TestNothingIsMadeUnderAnIDThatHasAnObject(t *testing.T) {
	r := quietRig(t)
	id := newID(t)
	raw(t, r.tok, func(m *pkcs11.Ctx, s pkcs11.SessionHandle) { rawPublic(t, m, s, id, "") })
	wantCode(t, r.Generate(t.Context(), id, "sa-cmk-key", 1, key.RSA2048, ""), Exists, key.Refused)
}

func TestUnknownPairIsNotFound(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, err := r.PublicKey(t.Context(), newID(t))
	wantCode(t, err, NotFound, key.Refused)
}

func TestWrapUnwrapsInGo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.generate(t)
	pub, err := r.PublicKey(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	kek, private := newKEK(t, vaultURL)
	ciphertext, err := r.WrapFor(t.Context(), id, kek)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verify(ciphertext, private, rsaOf(pub)); err != nil {
		t.Errorf("the ciphertext is wrong: %v", err)
	}
	if again, err := r.PublicKey(t.Context(), id); err != nil || again != pub {
		t.Errorf("the pair changed by being wrapped: %v", err)
	}
}

func TestDestroyRefusesAPairThatWasWrapped(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	wrapped, spare := r.generate(t), r.generate(t)
	kek, _ := newKEK(t, vaultURL)
	if _, err := r.WrapFor(t.Context(), wrapped, kek); err != nil {
		t.Fatal(err)
	}
	wantCode(t, r.Destroy(t.Context(), wrapped), NotPending, key.Refused)
	if err := r.Destroy(t.Context(), spare); err != nil {
		t.Fatalf("destroy a pending pair: %v", err)
	}
	if err := r.Destroy(t.Context(), spare); err != nil {
		t.Errorf("destroying nothing is not success: %v", err)
	}
	objects, err := r.Inventory(t.Context())
	if err != nil || len(objects) != 1 || objects[0].ID != wrapped || objects[0].Label.Pending ||
		!objects[0].Complete {
		t.Errorf("left in the HSM: %+v, %v", objects, err)
	}
	_, err = r.PublicKey(t.Context(), spare)
	wantCode(t, err, NotFound, key.Refused)
}

// A part of an HSM that lags behind, or that was put back from a backup, shows a pair in use as it was before its wrap.
func TestInsiderAPairInUseThatShowsAsPendingAgainIsNotDestroyed(t *testing.T) {
	r := quietRig(t)
	id := r.generate(t)
	kek, _ := newKEK(t, vaultURL)
	if _, err := r.WrapFor(t.Context(), id, kek); err != nil {
		t.Fatal(err)
	}
	raw(t, r.tok, func(m *pkcs11.Ctx, h pkcs11.SessionHandle) {
		s := session{m: m, h: h}
		objects, err := s.objectsWith(id)
		for _, o := range objects {
			err = errors.Join(err, s.relabel(o.handle, o.label+"/pending"))
		}
		if err != nil || len(objects) != 2 {
			t.Fatalf("%d objects, %v", len(objects), err)
		}
	})
	look := func() {
		t.Helper()
		if found, err := r.Find(t.Context(), id); err != nil || len(found) != 1 || !found[0].Label.Pending {
			t.Fatalf("%+v, %v", found, err)
		}
	}
	look()
	wantCode(t, r.Destroy(t.Context(), id), NotPending, key.Refused)
	look()
}

func TestDestroyRefusesTheObjectsOfOthers(t *testing.T) {
	r := quietRig(t)
	for _, label := range []string{"keyd/other/sa-cmk-key/1/pending", "somebody's key", "keyd/test/sa-cmk-key/1"} {
		id := newID(t)
		raw(t, r.tok, func(m *pkcs11.Ctx, s pkcs11.SessionHandle) { rawPublic(t, m, s, id, label) })
		wantCode(t, r.Destroy(t.Context(), id), NotPending, key.Refused)
	}
}

func TestDestroyCleansUpHalfAPair(t *testing.T) {
	r := quietRig(t)
	id := newID(t)
	raw(t, r.tok, func(m *pkcs11.Ctx, s pkcs11.SessionHandle) {
		rawPublic(t, m, s, id, "keyd/test/sa-cmk-key/1/pending")
	})
	_, err := r.PublicKey(t.Context(), id)
	wantCode(t, err, Incomplete, key.Refused)
	if err := r.Destroy(t.Context(), id); err != nil {
		t.Error(err)
	}
	_, err = r.PublicKey(t.Context(), id)
	wantCode(t, err, NotFound, key.Refused)
}

// Another application may have given its object the id of a pair, and no label.
func TestDestroyLeavesObjectsWithoutALabelAlone(t *testing.T) {
	r := quietRig(t)
	id := r.generate(t)
	raw(t, r.tok, func(m *pkcs11.Ctx, s pkcs11.SessionHandle) { rawPublic(t, m, s, id, "") })
	if err := r.Destroy(t.Context(), id); err != nil {
		t.Error(err)
	}
	raw(t, r.tok, func(m *pkcs11.Ctx, s pkcs11.SessionHandle) {
		left, err := session{m: m, h: s}.objectsWith(id)
		if err != nil || len(left) != 1 || left[0].label != "" {
			t.Errorf("under the id there is now %+v, %v", left, err)
		}
	})
}

// rawPublic puts a public key without its private one on the token.
func rawPublic(t *testing.T, m *pkcs11.Ctx, s pkcs11.SessionHandle, id key.ID, label string) {
	t.Helper()
	kek, _ := newKEK(t, vaultURL)
	attrs := append(publicAttrs(true),
		attr{pkcs11.CKA_ID, "ID", id.Bytes()}, attr{pkcs11.CKA_LABEL, "LABEL", label},
		attr{pkcs11.CKA_MODULUS, "MODULUS", rsaOf(kek.Material).N.Bytes()},
		attr{pkcs11.CKA_PUBLIC_EXPONENT, "PUBLIC_EXPONENT", big.NewInt(65537).Bytes()})
	if _, err := m.CreateObject(s, template(attrs)); err != nil {
		t.Fatal(err)
	}
}

func TestTwoPairsWithOneIDAreRefused(t *testing.T) {
	r := quietRig(t)
	id := r.generate(t)
	raw(t, r.tok, func(m *pkcs11.Ctx, s pkcs11.SessionHandle) {
		pub, priv := pairTemplates(id.Bytes(), "keyd/test/sa-cmk-key/1/pending", 2048, true, true)
		if _, _, err := m.GenerateKeyPair(s, mechanism(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil), pub, priv); err != nil {
			t.Fatal(err)
		}
	})
	for look, objects := range map[string]func() ([]key.Object, error){
		"Find":      func() ([]key.Object, error) { return r.Find(t.Context(), id) },
		"Inventory": func() ([]key.Object, error) { return r.Inventory(t.Context()) },
	} {
		found, err := objects()
		if err != nil || len(found) != 1 || found[0].Complete || found[0].Problem == "" {
			t.Errorf("%s: %+v, %v", look, found, err)
		}
	}
	kek, _ := newKEK(t, vaultURL)
	_, err := r.PublicKey(t.Context(), id)
	wantCode(t, err, Incomplete, key.Refused)
	_, err = r.WrapFor(t.Context(), id, kek)
	wantCode(t, err, Incomplete, key.Refused)
}

func TestForeignPairsAreRefused(t *testing.T) {
	r := quietRig(t)
	id := newID(t)
	raw(t, r.tok, func(m *pkcs11.Ctx, s pkcs11.SessionHandle) {
		pub, priv := pairTemplates(id.Bytes(), "keyd/other/sa-cmk-key/1", 2048, true, true)
		if _, _, err := m.GenerateKeyPair(s, mechanism(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil), pub, priv); err != nil {
			t.Fatal(err)
		}
	})
	kek, _ := newKEK(t, vaultURL)
	_, err := r.WrapFor(t.Context(), id, kek)
	wantCode(t, err, Foreign, key.Refused)
	_, err = r.Opens(t.Context(), id, make([]byte, 256), [32]byte{})
	wantCode(t, err, Foreign, key.Refused)
	if objects, err := r.Inventory(t.Context()); err != nil || len(objects) != 0 {
		t.Errorf("another instance's pair is listed: %+v, %v", objects, err)
	}
}

func TestAPairWithWeakAttributesIsRefused(t *testing.T) {
	r := quietRig(t)
	id := newID(t)
	raw(t, r.tok, func(m *pkcs11.Ctx, s pkcs11.SessionHandle) {
		pub, priv := pairTemplates(id.Bytes(), "keyd/test/sa-cmk-key/1/pending", 2048, true, true)
		for _, a := range priv {
			if a.Type == pkcs11.CKA_SENSITIVE {
				a.Value = []byte{0}
			}
		}
		if _, _, err := m.GenerateKeyPair(s, mechanism(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil), pub, priv); err != nil {
			t.Fatal(err)
		}
	})
	_, err := r.PublicKey(t.Context(), id)
	wantCode(t, err, Incomplete, key.Refused)
}

func TestOpensAnswersYesOrNo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.generate(t)
	pub, err := r.PublicKey(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte("what the vault wrapped")
	right := seal(t, pub, secret)
	sum := sha256.Sum256(secret)
	tooBig := make([]byte, rsaOf(pub).Size())
	for i := range tooBig {
		tooBig[i] = 0xff
	}
	flipped := append([]byte(nil), right...)
	flipped[len(flipped)-1] ^= 1
	for _, c := range []struct {
		name       string
		ciphertext []byte
		sum        [32]byte
		want       bool
	}{
		{"the right ciphertext", right, sum, true},
		{"another plaintext", right, sha256.Sum256([]byte("something else")), false},
		{"a changed ciphertext", flipped, sum, false},
		{"a number above the modulus", tooBig, sum, false},
		{"nothing", nil, sum, false},
		{"half of it", right[:128], sum, false},
		{"again the right one", right, sum, true},
	} {
		got, err := r.Opens(t.Context(), id, c.ciphertext, c.sum)
		if err != nil || got != c.want {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
}

func seal(t testing.TB, m key.Material, secret []byte) []byte {
	t.Helper()
	ciphertext, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, rsaOf(m), secret, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ciphertext
}

func TestAnObjectGoneSinceItWasCachedIsNotFound(t *testing.T) {
	r := quietRig(t)
	id := r.generate(t)
	pub, err := r.PublicKey(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	raw(t, r.tok, func(m *pkcs11.Ctx, h pkcs11.SessionHandle) {
		s := session{m: m, h: h}
		objects, err := s.objectsWith(id)
		if err != nil || len(objects) != 2 {
			t.Fatal(objects, err)
		}
		s.drop(objects[0].handle, objects[1].handle)
	})
	_, err = r.Opens(t.Context(), id, seal(t, pub, []byte("x")), sha256.Sum256([]byte("x")))
	wantCode(t, err, NotFound, key.Refused)
}

func TestParallelCallsOnFewSessions(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.generate(t)
	pub, err := r.PublicKey(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	ciphertext, sum := seal(t, pub, []byte("x")), sha256.Sum256([]byte("x"))
	errs := make(chan error)
	for range 32 {
		go func() {
			yes, err := r.Opens(t.Context(), id, ciphertext, sum)
			if err == nil && !yes {
				t.Error("did not open")
			}
			errs <- err
		}()
	}
	for range 32 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
