package hsm

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/big"
	"sync"

	"github.com/miekg/pkcs11"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/killpoint"
)

// auditSpec is the spec of the audit key. Its signatures must stay secure for as long as someone keeps an audit: NIST
// SP 800-57 part 1 rates RSA-3072 at 128 bits of security.
const auditSpec = key.RSA3072

// maxSpoilt is how many unusable objects may have the audit key's label before keyd stops making another one. If
// audit keys never read back correctly, keyd must not fill the token: key pairs need the room.
const maxSpoilt = 4

// auditLabel names the audit key. It is not a key.Label, so no other call takes the audit key for a keyd pair: none
// lists, wraps, opens with or destroys it.
func auditLabel(instance string) string { return "keyd-audit/" + instance }

// auditPrivateAttrs describe a key that can sign, but can never leave the token and never change.
func auditPrivateAttrs() []attr {
	return []attr{
		{pkcs11.CKA_CLASS, "CLASS", uint(pkcs11.CKO_PRIVATE_KEY)},
		{pkcs11.CKA_KEY_TYPE, "KEY_TYPE", uint(pkcs11.CKK_RSA)},
		{pkcs11.CKA_TOKEN, "TOKEN", true},
		{pkcs11.CKA_PRIVATE, "PRIVATE", true},
		{pkcs11.CKA_MODIFIABLE, "MODIFIABLE", false},
		{pkcs11.CKA_SENSITIVE, "SENSITIVE", true},
		{pkcs11.CKA_EXTRACTABLE, "EXTRACTABLE", false},
		{pkcs11.CKA_SIGN, "SIGN", true},
		{pkcs11.CKA_SIGN_RECOVER, "SIGN_RECOVER", false},
		{pkcs11.CKA_DECRYPT, "DECRYPT", false},
		{pkcs11.CKA_UNWRAP, "UNWRAP", false},
		{pkcs11.CKA_DERIVE, "DERIVE", false},
	}
}

// auditBirth is what the token itself says about how the audit key was made.
func auditBirth() []attr {
	return []attr{
		{pkcs11.CKA_LOCAL, "LOCAL", true},
		{pkcs11.CKA_ALWAYS_SENSITIVE, "ALWAYS_SENSITIVE", true},
		{pkcs11.CKA_NEVER_EXTRACTABLE, "NEVER_EXTRACTABLE", true},
		{pkcs11.CKA_KEY_GEN_MECHANISM, "KEY_GEN_MECHANISM", uint(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN)},
	}
}

func auditPublicAttrs() []attr {
	return []attr{
		{pkcs11.CKA_CLASS, "CLASS", uint(pkcs11.CKO_PUBLIC_KEY)},
		{pkcs11.CKA_KEY_TYPE, "KEY_TYPE", uint(pkcs11.CKK_RSA)},
		{pkcs11.CKA_TOKEN, "TOKEN", true},
		{pkcs11.CKA_PRIVATE, "PRIVATE", false},
		{pkcs11.CKA_VERIFY, "VERIFY", true},
		{pkcs11.CKA_VERIFY_RECOVER, "VERIFY_RECOVER", false},
		{pkcs11.CKA_ENCRYPT, "ENCRYPT", false},
		{pkcs11.CKA_WRAP, "WRAP", false},
		{pkcs11.CKA_DERIVE, "DERIVE", false},
		{pkcs11.CKA_MODULUS_BITS, "MODULUS_BITS", uint(auditSpec.Bits())},
	}
}

// auditKey is the instance's audit key on the token.
type auditKey struct {
	private  pkcs11.ObjectHandle
	public   *rsa.PublicKey
	material key.Material // of public
}

// auditMemory remembers the audit key that this process found last.
type auditMemory struct {
	mu    sync.Mutex
	last  auditKey
	known bool // last has its handle
	seen  bool // there was one
}

func (a *auditMemory) remember(k auditKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last, a.known, a.seen = k, true, true
}

func (a *auditMemory) recall() (k auditKey, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last, a.known
}

func (a *auditMemory) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last, a.known = auditKey{}, false
}

func (a *auditMemory) wasSeen() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seen
}

// findAuditKey finds the audit key and remembers it.
func (e *engine) findAuditKey(s session) (auditKey, error) {
	k, err := s.auditKey(e.own)
	if err == nil {
		e.audit.remember(k)
	} else {
		e.audit.forget()
	}
	return k, err
}

// presentAuditKey returns the audit key as it reads back now. It searches only if the handle from before does not show
// it. So it does not see that there is a second one: MakeAuditKey does, and the next process.
func (e *engine) presentAuditKey(s session) (auditKey, error) {
	if before, ok := e.audit.recall(); ok {
		k, problem, err := s.readAuditKey(before.private, e.own)
		if err == nil && problem == "" && k.material == before.material {
			return k, nil
		}
		if err != nil && !handleLost(err) && !IsCode(err, Incomplete) { // a module may give a handle to another object
			return k, err
		}
	}
	return e.findAuditKey(s)
}

// AuditKey returns the public half of the audit key. present is false if there is none. The error Incomplete means
// that there are several.
func (e *engine) AuditKey(ctx context.Context) (m key.Material, present bool, err error) {
	if _, err := e.ready(ctx); err != nil {
		return key.Material{}, false, err
	}
	k, err := with(ctx, e.tok, e.cfg.CallTimeout, true, e.presentAuditKey)
	if IsCode(err, NotFound) {
		return key.Material{}, false, nil
	}
	return k.material, err == nil, classify("look for the audit key", err, key.Retry)
}

// MakeAuditKey makes the audit key unless it exists. It looks first, so after a crash at any point, or a repeated
// call, there is still one key.
func (e *engine) MakeAuditKey(ctx context.Context) (key.Material, error) {
	if _, err := e.ready(ctx); err != nil {
		return key.Material{}, err
	}
	e.auditing.Lock()
	defer e.auditing.Unlock()
	e.heads.mu.Lock() // before a session is taken, as SignCheckpoint does
	defer e.heads.mu.Unlock()
	ctx, resume, err := e.making.pause(ctx) // it is made once, so it need not be made beside other pairs
	if err != nil {
		return key.Material{}, err
	}
	defer resume()
	k, err := with(ctx, e.tok, e.cfg.GenerateTimeout, false, func(s session) (auditKey, error) {
		k, err := e.findAuditKey(s)
		if !IsCode(err, NotFound) {
			return k, err
		}
		if err := stillDue(ctx); err != nil {
			return k, err
		}
		if err := e.heads.begin(); err != nil {
			return k, err
		}
		if k, err = s.makeAuditKey(e.own, err); err == nil {
			e.audit.remember(k)
		}
		return k, err
	})
	return k.material, classify("make the audit key", err, key.Ambiguous)
}

// auditKey finds the one audit key. Only the private half counts: a crash may leave a public half alone. It ignores
// objects that do not read back as keyd makes them.
func (s session) auditKey(mine own) (auditKey, error) {
	label := auditLabel(mine.instance)
	handles, err := s.find(
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
	)
	if err != nil {
		return auditKey{}, err
	}
	var whole []auditKey
	var why string // of the last incomplete object
	for _, h := range handles {
		k, problem, err := s.readAuditKey(h, mine)
		if err != nil {
			return auditKey{}, err
		}
		if problem != "" {
			why = ": " + problem
			continue
		}
		whole = append(whole, k)
	}
	switch len(whole) {
	case 0:
		return auditKey{}, refused(
			NotFound, "the HSM has no audit key %q (%d objects of that label are not whole%s)", label, len(handles),
			why,
		)
	case 1:
		return whole[0], nil
	default:
		return auditKey{}, refused(
			Incomplete,
			"the HSM has %d audit keys %q: compare their fingerprints with `keyd audit`, "+
				"and with the vendor's tool remove the keys that signed nothing", len(whole), label,
		)
	}
}

// readAuditKey reads a key with the audit key's label. problem says why it is not an audit key; "" if it is one.
func (s session) readAuditKey(h pkcs11.ObjectHandle, mine own) (k auditKey, problem string, err error) {
	pub, err := s.rsaPublic(h)
	if err != nil {
		return k, "", err
	}
	k = auditKey{private: h, public: pub}
	k.material, _ = key.FromRSA(pub) // an invalid key has no spec either
	problem, err = s.auditProblem(k, mine)
	return k, problem, err
}

// auditProblem says why a key with the audit key's label is not an audit key; "" if it is one.
func (s session) auditProblem(k auditKey, mine own) (string, error) {
	if k.material.Spec() != auditSpec {
		return fmt.Sprintf("it has %d bits, not %d", k.public.N.BitLen(), auditSpec.Bits()), nil
	}
	problem, unreported, err := s.compare(
		k.private,
		append(auditPrivateAttrs(), auditBirth()...),
		mine.trial.unreported(),
	)
	if problem != "" || err != nil || len(unreported) == 0 {
		return problem, err
	}
	id, err := s.optional(k.private, pkcs11.CKA_ID)
	return mine.witness.missing(key.ID(hex.EncodeToString(id)), k.material, unreported), err
}

// makeAuditKey makes the audit key. The error none says why the token has none.
func (s session) makeAuditKey(mine own, none error) (auditKey, error) {
	spoilt, err := s.find(
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, auditLabel(mine.instance)),
	)
	if err != nil {
		return auditKey{}, err
	}
	if len(spoilt) >= maxSpoilt {
		return auditKey{}, refused(
			Incomplete, "no further one is made: %w; remove these with the vendor's tool once the cause is found",
			none,
		)
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails (crypto/rand)
	named := []attr{{pkcs11.CKA_ID, "ID", id}, {pkcs11.CKA_LABEL, "LABEL", auditLabel(mine.instance)}}
	public := append(auditPublicAttrs(), named...)
	public = append(public, attr{pkcs11.CKA_PUBLIC_EXPONENT, "PUBLIC_EXPONENT", big.NewInt(publicExponent).Bytes()})
	private := append(auditPrivateAttrs(), named...)
	killpoint.At("hsm-audit-key-before")
	_, made, err := s.m.GenerateKeyPair(
		s.h, mechanism(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil), template(public), template(private),
	)
	if err != nil {
		return auditKey{}, fmt.Errorf("C_GenerateKeyPair: %w", err)
	}
	killpoint.At("hsm-audit-key-after")
	if err := s.witnessAuditKey(made, key.ID(hex.EncodeToString(id)), mine); err != nil {
		return auditKey{}, newError(Incomplete, key.Ambiguous, "the audit key was generated, but not noted: %w", err)
	}
	k, err := s.auditKey(mine)
	if err != nil {
		return k, newError(Incomplete, key.Ambiguous, "the audit key was generated, but does not read back: %w", err)
	}
	return k, nil
}

// witnessAuditKey notes the new key if the token cannot say how it was made. It needs no proof of possession: keyd
// verifies each of its signatures.
func (s session) witnessAuditKey(made pkcs11.ObjectHandle, id key.ID, mine own) error {
	_, unreported, err := s.compare(made, auditBirth(), mine.trial.unreported())
	if err != nil || len(unreported) == 0 {
		return err
	}
	pub, err := s.rsaPublic(made)
	if err != nil {
		return err
	}
	m, err := key.FromRSA(pub)
	if err != nil {
		return err
	}
	mine.witness.saw(id, m)
	return mine.witness.keep(id)
}

// sign uses CKM_SHA256_RSA_PKCS (PKCS#11 v2.40 section 2.1.5). Every module has this mechanism, it has no parameters
// that modules read differently, and any tool can verify its signatures.
func (s session) sign(k auditKey, message []byte) ([]byte, error) {
	killpoint.At("hsm-sign-before")
	if err := s.m.SignInit(s.h, mechanism(pkcs11.CKM_SHA256_RSA_PKCS, nil), k.private); err != nil {
		return nil, fmt.Errorf("C_SignInit: %w", err)
	}
	signature, err := s.m.Sign(s.h, message)
	killpoint.At("hsm-sign-after")
	if err != nil {
		return nil, fmt.Errorf("C_Sign: %w", err)
	}
	digest := sha256.Sum256(message)
	if err := rsa.VerifyPKCS1v15(k.public, crypto.SHA256, digest[:], signature); err != nil {
		return nil, newError(
			Internal, key.Retry, "the token's signature does not verify under the audit key's own public key: %w",
			err,
		)
	}
	return signature, nil
}
