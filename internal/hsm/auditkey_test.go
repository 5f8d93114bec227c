package hsm

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/keyd-project/keyd/internal/key"
)

func wantSigned(t *testing.T, m key.Material, message, signature []byte) {
	t.Helper()
	digest := sha256.Sum256(message)
	if err := rsa.VerifyPKCS1v15(rsaOf(m), crypto.SHA256, digest[:], signature); err != nil {
		t.Errorf("the signature does not verify: %v", err)
	}
}

func TestTheAuditKeyIsMadeOnceAndSignsCheckpoints(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if _, present, err := r.AuditKey(t.Context()); err != nil || present {
		t.Fatalf("a fresh token has an audit key: %v, %v", present, err)
	}
	_, _, err := r.SignCheckpoint(t.Context(), entries(1, 3).after(nil))
	wantCode(t, err, NotFound, key.Refused)

	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if _, err := r.MakeAuditKey(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	pub, present, err := r.AuditKey(t.Context())
	if err != nil || !present || pub.Spec() != auditSpec {
		t.Fatalf("the audit key: %v, %v", present, err)
	}
	x := entries(1, 57).after(nil)
	before := time.Now().Truncate(time.Second)
	signed, missed, err := r.SignCheckpoint(t.Context(), x)
	if err != nil || missed {
		t.Fatal(missed, err)
	}
	if signed.Time.Before(before) || signed.Time.After(time.Now()) {
		t.Errorf("it is stamped %v, and not by this side's clock", signed.Time)
	}
	text := fmt.Sprintf(
		"keyd audit checkpoint v2\ninstance test\nseq 57\nhead %s\ntime %s\nsigner %s\nprevious none\n",
		x.Head,
		signed.Time.UTC().Format(time.RFC3339),
		pub.Fingerprint(),
	)
	wantSigned(t, pub, []byte(text), signed.Signature)
}

// signing records what the token signs and with which mechanism.
type signing struct {
	module
	mechanisms *[]uint
	messages   *[][]byte
	spoil      bool
}

func (m signing) SignInit(s pkcs11.SessionHandle, mech []*pkcs11.Mechanism, k pkcs11.ObjectHandle) error {
	*m.mechanisms = append(*m.mechanisms, mech[0].Mechanism)
	return m.module.SignInit(s, mech, k)
}

func (m signing) Sign(s pkcs11.SessionHandle, message []byte) ([]byte, error) {
	*m.messages = append(*m.messages, bytes.Clone(message))
	out, err := m.module.Sign(s, message)
	if m.spoil && len(out) > 0 {
		out[len(out)-1] ^= 1
	}
	return out, err
}

// The test passes data to every call of the protocol. Only the checkpoint's message reaches C_Sign.
func TestTheTokenSignsNothingElse(t *testing.T) {
	var mechanisms []uint
	var messages [][]byte
	e := inProcess(t, func(m module) module {
		return signing{module: m, mechanisms: &mechanisms, messages: &messages}
	})
	id := newID(t)
	evil := map[string]any{
		"id": id, "key": "sa-cmk-key", "number": 1, "spec": "RSA-2048", "ciphertext": []byte("sign me"),
		"sha256":  make([]byte, 32),
		"message": []byte("sign me"), "digest": []byte("sign me"), "data": []byte("sign me"),
		"seq": 1, "head": "sign me", "stubs": []any{}, "time": time.Now(), "break": map[string]any{"reason": "sign me"},
	}
	params := func(names ...string) json.RawMessage {
		chosen := map[string]any{}
		for _, n := range names {
			chosen[n] = evil[n]
		}
		b, err := json.Marshal(chosen)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, c := range []struct {
		method string
		params json.RawMessage
	}{
		{"Sign", params("message")}, {"SignCheckpoint", params("message")}, {"SignCheckpoint", params("digest")},
		{"SignCheckpoint", params("seq", "head", "stubs")}, {"SignCheckpoint", params("seq", "stubs", "time")},
		{"SignCheckpoint", params("break")}, {"AcceptHead", params("seq", "head")},
		{"SignCheckpoint", params()},
		{"MakeAuditKey", params("message")}, {"AuditKey", params("message")}, {"Describe", params("message")},
		{"MayGenerate", params("key", "number", "spec")},
		{"Generate", params("id", "key", "number", "spec")}, {"PublicKey", params("id")}, {"Inventory", params()},
		{"Opens", params("id", "ciphertext", "sha256")}, {"Destroy", params("id")},
	} {
		_, _ = dispatch(t.Context(), e, c.method, c.params)
	}
	if len(messages) != 0 {
		t.Fatalf("the token was given %q to sign", messages)
	}
	good, err := json.Marshal(extensionParams{entries(1, 3).after(nil)})
	if err != nil {
		t.Fatal(err)
	}
	out, err := dispatch(t.Context(), e, "SignCheckpoint", good)
	if err != nil {
		t.Fatal(err)
	}
	signed, ok := out.(checkpointResult)
	if !ok || len(messages) != 1 || !bytes.Equal(messages[0], signed.Checkpoint.Message()) {
		t.Errorf("the token was given %q to sign", messages)
	}
	if len(mechanisms) != 1 || mechanisms[0] != pkcs11.CKM_SHA256_RSA_PKCS {
		t.Errorf("by mechanisms %x", mechanisms)
	}
}

func TestASignatureThatDoesNotVerifyIsNotReturned(t *testing.T) {
	var mechanisms []uint
	var messages [][]byte
	e := inProcess(t, func(m module) module {
		return signing{module: m, mechanisms: &mechanisms, messages: &messages, spoil: true}
	})
	if _, err := e.MakeAuditKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out, _, err := e.SignCheckpoint(t.Context(), entries(1, 3).after(nil)); err == nil || out.Signature != nil ||
		!strings.Contains(err.Error(), "does not verify") {
		t.Errorf("a spoilt signature: %v, %v", out, err)
	}
}

// auditObjects returns the handles of the audit key's halves and its CKA_ID.
func auditObjects(
	t *testing.T, m *pkcs11.Ctx, s pkcs11.SessionHandle,
) (private, public []pkcs11.ObjectHandle, id key.ID) {
	t.Helper()
	ses := session{m: m, h: s}
	for class, into := range map[uint]*[]pkcs11.ObjectHandle{
		pkcs11.CKO_PRIVATE_KEY: &private, pkcs11.CKO_PUBLIC_KEY: &public,
	} {
		found, err := ses.find(
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_LABEL, auditLabel("test")),
		)
		if err != nil {
			t.Fatal(err)
		}
		*into = found
	}
	if len(private) > 0 {
		values, err := ses.attributes(private[0], pkcs11.CKA_ID)
		if err != nil {
			t.Fatal(err)
		}
		id = key.ID(hex.EncodeToString(values[0]))
	}
	return private, public, id
}

func TestTheAuditKeyCanDoNothingButSign(t *testing.T) {
	r := newRig(t)
	pub, err := r.MakeAuditKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	raw(t, r.tok, func(m *pkcs11.Ctx, s pkcs11.SessionHandle) {
		private, public, _ := auditObjects(t, m, s)
		if len(private) != 1 || len(public) != 1 {
			t.Fatalf("%d private and %d public halves", len(private), len(public))
		}
		for typ, want := range map[uint]bool{
			pkcs11.CKA_SIGN: true, pkcs11.CKA_SENSITIVE: true, pkcs11.CKA_NEVER_EXTRACTABLE: true,
			pkcs11.CKA_PRIVATE:     true,
			pkcs11.CKA_EXTRACTABLE: false, pkcs11.CKA_DECRYPT: false, pkcs11.CKA_UNWRAP: false,
			pkcs11.CKA_DERIVE: false, pkcs11.CKA_SIGN_RECOVER: false,
		} {
			values, err := session{m: m, h: s}.attributes(private[0], typ)
			if err != nil || !hasValue(values[0], want) {
				t.Errorf("attribute %#x of the private half is %v, %v", typ, values, err)
			}
		}
		values, err := session{m: m, h: s}.attributes(public[0], pkcs11.CKA_WRAP)
		if err != nil || !hasValue(values[0], false) {
			t.Errorf("the public half may wrap: %v, %v", values, err)
		}
		if _, err := (session{m: m, h: s}).decrypt(
			mechanism(pkcs11.CKM_RSA_X_509, nil), private[0], make([]byte, rsaOf(pub).Size()),
		); err == nil {
			t.Error("the token decrypts with the audit key")
		}
		kek, _ := newKEK(t, vaultURL)
		for _, way := range wrappers(0) {
			if _, err := way.wrapTo(session{m: m, h: s}, rsaOf(kek.Material), private[0]); err == nil {
				t.Errorf("the audit key leaves the token by %s", way.name)
			}
		}
		changed := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, "keyd/test/sa-cmk-key/1/pending")}
		if err := m.SetAttributeValue(s, private[0], changed); err == nil {
			t.Error("the audit key can be given another label")
		}
	})
}

func TestNoOtherCallTakesTheAuditKeyForAPair(t *testing.T) {
	r := newRig(t)
	pub, err := r.MakeAuditKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	var id key.ID
	raw(t, r.tok, func(m *pkcs11.Ctx, s pkcs11.SessionHandle) { _, _, id = auditObjects(t, m, s) })
	r = start(t, r.tok, r.child)
	ctx := t.Context()
	if objects, err := r.Inventory(ctx); err != nil || len(objects) != 0 {
		t.Errorf("Inventory shows %v, %v", objects, err)
	}
	_, err = r.PublicKey(ctx, id)
	wantCode(t, err, Foreign, key.Refused)
	kek, _ := newKEK(t, vaultURL)
	_, err = r.WrapFor(ctx, id, kek)
	wantCode(t, err, Foreign, key.Refused)
	_, err = r.Opens(ctx, id, seal(t, pub, []byte("x")), sha256.Sum256([]byte("x")))
	wantCode(t, err, Foreign, key.Refused)
	wantCode(t, r.Destroy(ctx, id), NotPending, key.Refused)
	wantCode(t, r.Generate(ctx, id, "sa-cmk-key", 1, key.RSA2048, ""), Exists, key.Refused)
	if got, present, err := r.AuditKey(ctx); err != nil || !present || got != pub {
		t.Errorf("afterwards the audit key is there: %v, %v", present, err)
	}
}

// plantAuditKey makes an audit key on the token, past keyd, with some attributes changed.
func plantAuditKey(
	t *testing.T, m *pkcs11.Ctx, s pkcs11.SessionHandle, bits int, change map[uint]any,
) (public, private pkcs11.ObjectHandle) {
	t.Helper()
	named := []attr{{pkcs11.CKA_ID, "ID", newID(t).Bytes()}, {pkcs11.CKA_LABEL, "LABEL", auditLabel("test")}}
	pub := append(auditPublicAttrs(), named...)
	pub = append(pub, attr{pkcs11.CKA_PUBLIC_EXPONENT, "PUBLIC_EXPONENT", big.NewInt(publicExponent).Bytes()})
	priv := append(auditPrivateAttrs(), named...)
	for i := range priv {
		if v, ok := change[priv[i].typ]; ok {
			priv[i].value = v
		}
	}
	for i := range pub {
		if pub[i].typ == pkcs11.CKA_MODULUS_BITS {
			pub[i].value = uint(bits)
		}
	}
	public, private, err := m.GenerateKeyPair(
		s, mechanism(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil), template(pub), template(priv),
	)
	if err != nil {
		t.Fatal(err)
	}
	return public, private
}

func TestAnIncompleteAuditKeyIsIgnoredAndTwoAreRefused(t *testing.T) {
	r := newRig(t)
	r.stop()
	raw(t, r.tok, func(m *pkcs11.Ctx, s pkcs11.SessionHandle) {
		_, private := plantAuditKey(t, m, s, auditSpec.Bits(), nil) // a public half that a crash left alone
		if err := m.DestroyObject(s, private); err != nil {
			t.Fatal(err)
		}
		plantAuditKey(t, m, s, auditSpec.Bits(), map[uint]any{pkcs11.CKA_DECRYPT: true})
		plantAuditKey(t, m, s, auditSpec.Bits(), map[uint]any{pkcs11.CKA_EXTRACTABLE: true})
		plantAuditKey(t, m, s, 2048, nil)
	})
	r = start(t, r.tok, r.child)
	if _, present, err := r.AuditKey(t.Context()); present || err != nil {
		t.Fatalf("something half is an audit key: %v, %v", present, err)
	}
	if _, err := r.MakeAuditKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.SignCheckpoint(t.Context(), entries(1, 3).after(nil)); err != nil {
		t.Fatal(err)
	}
	r.stop()
	raw(t, r.tok, func(m *pkcs11.Ctx, s pkcs11.SessionHandle) { plantAuditKey(t, m, s, auditSpec.Bits(), nil) })
	r = start(t, r.tok, r.child)
	_, err := r.MakeAuditKey(t.Context())
	wantCode(t, err, Incomplete, key.Refused)
	_, err = r.MakeAuditKey(t.Context())
	wantCode(t, err, Incomplete, key.Refused)
}

// Even if no audit key ever reads back correctly, the token keeps its room for pairs.
func TestIncompleteAuditKeysDoNotFillTheToken(t *testing.T) {
	r := newRig(t)
	r.stop()
	raw(t, r.tok, func(m *pkcs11.Ctx, s pkcs11.SessionHandle) {
		for range maxSpoilt {
			plantAuditKey(t, m, s, auditSpec.Bits(), map[uint]any{pkcs11.CKA_EXTRACTABLE: true})
		}
	})
	r = start(t, r.tok, r.child)
	_, err := r.MakeAuditKey(t.Context())
	wantCode(t, err, Incomplete, key.Refused)
	if !strings.Contains(fmt.Sprint(err), "4 objects of that label are not whole: CKA_") {
		t.Errorf("it does not say what is wrong: %v", err)
	}
}
