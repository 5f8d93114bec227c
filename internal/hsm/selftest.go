package hsm

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/pkcs11"
)

// profile holds what the self-test at the start found out about the token.
type profile struct {
	wrap     *wrapper // nil: none passed
	open     *opener  // nil: none passed
	extras   bool     // the token accepts privateExtras
	inside   shape    // of a throw-away key that wrap wrapped
	warnings []string
	problems []string // why wrap or open is nil, and what keyd tried
}

// selfTest chooses how to wrap and how to open. It cannot trust mechanism numbers: 0x210A has three different
// meanings, and each returns CKR_OK. So each way wraps a throw-away session key to a throw-away KEK whose private key
// is in Go. The way passes only if Go unwraps the same key.
func (s session) selfTest(vendor uint) (profile, error) {
	kek, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return profile{}, fmt.Errorf("make the self-test's KEK: %w", err)
	}
	p := profile{extras: true}
	public, private, err := s.sessionPair(true)
	if isCKR(
		err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_TEMPLATE_INCONSISTENT,
		pkcs11.CKR_ATTRIBUTE_VALUE_INVALID,
	) {
		p.extras = false
		public, private, err = s.sessionPair(false)
	}
	if err != nil {
		return profile{}, fmt.Errorf("self-test: make a throw-away key pair: %w", err)
	}
	defer s.drop(public, private)
	pub, err := s.rsaPublic(public)
	if err != nil {
		return profile{}, fmt.Errorf("self-test: read the throw-away public key: %w", err)
	}
	p.chooseWrap(s, wrappers(vendor), kek, private, pub)
	p.chooseOpen(s, private, pub)
	p.warnOfPadding(s, kek)
	return p, nil
}

func (s session) sessionPair(extras bool) (public, private pkcs11.ObjectHandle, err error) {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails (crypto/rand)
	pub, priv := pairTemplates(id, "keyd-selftest", 2048, false, extras)
	return s.m.GenerateKeyPair(s.h, mechanism(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil), pub, priv)
}

func (p *profile) chooseWrap(
	s session, ways []wrapper, kek *rsa.PrivateKey, private pkcs11.ObjectHandle, pub *rsa.PublicKey,
) {
	var tried []string
	for _, way := range ways {
		ciphertext, err := way.wrapTo(s, &kek.PublicKey, private)
		if err == nil {
			if p.inside, err = verify(ciphertext, kek, pub); err == nil {
				p.wrap = &way
				return
			}
		}
		tried = append(tried, fmt.Sprintf("%s: %v", way.name, err))
	}
	p.problems = append(
		p.problems,
		"the HSM cannot wrap a private key as CKM_RSA_AES_KEY_WRAP. Tried: "+strings.Join(tried, "; ")+
			". Allow private keys to be wrapped in the token's policy, or name the vendor's AES-KWP mechanism "+
			"(hsm.wrap_mechanism)",
	)
}

func (p *profile) chooseOpen(s session, private pkcs11.ObjectHandle, pub *rsa.PublicKey) {
	var tried []error
	for _, way := range openers() {
		err := way.possesses(s, pair{private: private, key: pub})
		if err == nil {
			p.open = &way
			return
		}
		tried = append(tried, fmt.Errorf("%s: %w", way.name, err))
	}
	p.problems = append(
		p.problems,
		fmt.Sprintf("the HSM cannot decrypt RSA-OAEP-256, so keyd could prove nothing. Tried: %v",
			errors.Join(tried...)),
	)
}

// maxPaddingTries limits how many keys keyd makes to see how the module pads.
const maxPaddingTries = 8

// warnOfPadding looks at what the module did, not at its name: SoftHSM before 2.7 appends zero bytes to most keys,
// and p11-kit-proxy shows it under another name. If the first key does not show how the module pads, warnOfPadding
// makes others.
func (p *profile) warnOfPadding(s session, kek *rsa.PrivateKey) {
	for range maxPaddingTries {
		if p.wrap == nil || p.inside.conclusive() {
			break
		}
		inside, err := s.shapeOfAnother(*p, kek)
		if err != nil {
			break // a warning is not worth further effort
		}
		p.inside = inside
	}
	if p.wrap != nil && p.inside.zeros > 0 {
		p.warnings = append(p.warnings, p.wrap.name+" puts zero bytes behind most private keys before it wraps them "+
			"(as SoftHSM 2.6.1 does): a strict parser may refuse the blob")
	}
}

// shapeOfAnother wraps another throw-away key and returns its shape.
func (s session) shapeOfAnother(p profile, kek *rsa.PrivateKey) (shape, error) {
	public, private, err := s.sessionPair(p.extras)
	if err != nil {
		return shape{}, err
	}
	defer s.drop(public, private)
	pub, err := s.rsaPublic(public)
	if err != nil {
		return shape{}, err
	}
	ciphertext, err := p.wrap.wrapTo(s, &kek.PublicKey, private)
	if err != nil {
		return shape{}, err
	}
	return verify(ciphertext, kek, pub)
}
