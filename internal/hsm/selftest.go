package hsm

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/pkcs11"
)

// profile is what the start-up self-test found out about the token.
type profile struct {
	wrap     *wrapper // nil: none passed
	open     *opener  // nil: none passed
	extras   bool     // privateExtras can be set
	padding  int      // zero bytes that the module put behind the DER
	warnings []string
	problems []string // why wrap or open is nil, and what was tried
}

// selfTest chooses how to wrap and how to open. Mechanism numbers cannot be
// trusted: 0x210A means three different things, all of which answer CKR_OK. So
// each way wraps a throw-away session key to a throw-away KEK whose private key
// is in Go, and passes only when Go unwraps the same key.
func (s session) selfTest(vendor uint) (profile, error) {
	kek, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return profile{}, fmt.Errorf("make the self-test's KEK: %w", err)
	}
	p := profile{extras: true}
	public, private, err := s.sessionPair(true)
	if isCKR(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_TEMPLATE_INCONSISTENT, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID) {
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
	return p, nil
}

func (s session) sessionPair(extras bool) (public, private pkcs11.ObjectHandle, err error) {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails (crypto/rand)
	pub, priv := pairTemplates(id, "keyd-selftest", 2048, false, extras)
	return s.m.GenerateKeyPair(s.h, mechanism(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil), pub, priv)
}

func (p *profile) chooseWrap(s session, ways []wrapper, kek *rsa.PrivateKey, private pkcs11.ObjectHandle, pub *rsa.PublicKey) {
	var tried []string
	for _, way := range ways {
		ciphertext, err := way.wrapTo(s, &kek.PublicKey, private)
		if err == nil {
			if p.padding, err = verify(ciphertext, kek, pub); err == nil {
				p.wrap = &way
				return
			}
		}
		tried = append(tried, fmt.Sprintf("%s: %v", way.name, err))
	}
	p.problems = append(p.problems, "the HSM cannot wrap a private key as CKM_RSA_AES_KEY_WRAP. Tried: "+strings.Join(tried, "; ")+
		". Allow private keys to be wrapped in the token's policy, or name the vendor's AES-KWP mechanism (hsm.wrap_mechanism)")
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
	p.problems = append(p.problems, fmt.Sprintf("the HSM cannot open RSA-OAEP-256, so nothing could be proven. Tried: %v", errors.Join(tried...)))
}

// warnOfPadding: SoftHSM before 2.7 pads most keys with zero bytes before it
// wraps them; whether the self-test's key was among them is chance.
func (p *profile) warnOfPadding(lib pkcs11.Info) {
	old := strings.HasPrefix(trim(lib.ManufacturerID), "SoftHSM") &&
		(lib.LibraryVersion.Major < 2 || lib.LibraryVersion.Major == 2 && lib.LibraryVersion.Minor < 7)
	if p.wrap != nil && (p.padding > 0 || old) {
		p.warnings = append(p.warnings, p.wrap.name+" puts zero bytes behind most private keys before it wraps them "+
			"(as SoftHSM 2.6.1 does): a strict parser may refuse the blob")
	}
}
