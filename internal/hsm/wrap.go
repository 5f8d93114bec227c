package hsm

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // CKM_RSA_AES_KEY_WRAP of the BYOK transfer is defined with OAEP-SHA-1
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
	"github.com/tink-crypto/tink-go/v2/kwp/subtle"
)

// ckmAESKeyWrapKWP is CKM_AES_KEY_WRAP_KWP of PKCS#11 v3.0, which miekg lacks.
const ckmAESKeyWrapKWP = 0x210B

// wrapper is one way to make the ciphertext of CKM_RSA_AES_KEY_WRAP (PKCS#11 v3.0 section 2.1.21): RSA-OAEP-SHA-1 of
// a fresh AES-256 key, followed by the PKCS#8 private key in AES-KWP (RFC 5649) under that key.
type wrapper struct {
	name string
	wrap func(s session, kek, private pkcs11.ObjectHandle) ([]byte, error)
}

// wrappers lists the ways in the order in which keyd tries them.
func wrappers(vendor uint) []wrapper {
	all := []wrapper{
		{"CKM_RSA_AES_KEY_WRAP (0x1054)", oneStep},
		{"CKM_AES_KEY_WRAP_KWP (0x210B)", twoSteps(ckmAESKeyWrapKWP)},
	}
	if vendor != 0 {
		all = append(all, wrapper{fmt.Sprintf("vendor mechanism (0x%X)", vendor), twoSteps(vendor)})
	}
	// This comes last, because its number has three meanings and only one is RFC 5649.
	return append(all, wrapper{"CKM_AES_KEY_WRAP_PAD (0x210A)", twoSteps(pkcs11.CKM_AES_KEY_WRAP_PAD)})
}

func oaepSHA1() *pkcs11.OAEPParams {
	return pkcs11.NewOAEPParams(pkcs11.CKM_SHA_1, pkcs11.CKG_MGF1_SHA1, pkcs11.CKZ_DATA_SPECIFIED, nil)
}

func mechanism(m uint, params any) []*pkcs11.Mechanism {
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(m, params)}
}

func oneStep(s session, kek, private pkcs11.ObjectHandle) ([]byte, error) {
	params := &pkcs11.RSAAESKeyWrapParams{AESKeyBits: 256, OAEPParams: *oaepSHA1()}
	out, err := s.m.WrapKey(s.h, mechanism(pkcs11.CKM_RSA_AES_KEY_WRAP, params), kek, private)
	if err != nil {
		return nil, fmt.Errorf("C_WrapKey: %w", err)
	}
	return out, nil
}

func twoSteps(kwp uint) func(s session, kek, private pkcs11.ObjectHandle) ([]byte, error) {
	return func(s session, kek, private pkcs11.ObjectHandle) ([]byte, error) {
		aes, err := s.m.GenerateKey(s.h, mechanism(pkcs11.CKM_AES_KEY_GEN, nil), ephemeralAttrs())
		if err != nil {
			return nil, fmt.Errorf("C_GenerateKey of the AES key: %w", err)
		}
		defer s.drop(aes)
		head, err := s.m.WrapKey(s.h, mechanism(pkcs11.CKM_RSA_PKCS_OAEP, oaepSHA1()), kek, aes)
		if err != nil {
			return nil, fmt.Errorf("C_WrapKey of the AES key: %w", err)
		}
		tail, err := s.m.WrapKey(s.h, mechanism(kwp, nil), aes, private)
		if err != nil {
			return nil, fmt.Errorf("C_WrapKey of the private key: %w", err)
		}
		return append(head, tail...), nil
	}
}

// wrapTo imports kek as a session object, wraps private to it and drops kek.
func (w wrapper) wrapTo(s session, kek *rsa.PublicKey, private pkcs11.ObjectHandle) ([]byte, error) {
	h, err := s.m.CreateObject(s.h, kekAttrs(kek))
	if err != nil {
		return nil, fmt.Errorf("C_CreateObject of the KEK: %w", err)
	}
	defer s.drop(h)
	return w.wrap(s, h, private)
}

// plausible checks a ciphertext's length: OAEP block, and a KWP message of whole
// 8-byte blocks that is longer than the modulus it must hold several times.
func plausible(ciphertext []byte, kek, wrapped *rsa.PublicKey) bool {
	tail := len(ciphertext) - kek.Size()
	return tail%8 == 0 && tail > 3*wrapped.Size()
}

// shape describes the inside of a wrapped private key.
type shape struct {
	der   int // bytes of the PKCS#8
	zeros int // bytes that the module appended
}

// conclusive reports whether the shape shows how the module pads. One key in eight has a PKCS#8 of whole 8-byte blocks,
// which looks the same with and without padding.
func (s shape) conclusive() bool { return s.zeros > 0 || s.der%8 != 0 }

// verify unwraps ciphertext in Go and checks that it contains the private key of want. Only the self-test can do
// this: it holds the KEK's private key, and the wrapped key is a throw-away key.
func verify(ciphertext []byte, kek *rsa.PrivateKey, want *rsa.PublicKey) (shape, error) {
	if len(ciphertext) <= kek.Size() {
		return shape{}, errors.New("the ciphertext is too short")
	}
	aes, err := rsa.DecryptOAEP(sha1.New(), rand.Reader, kek, ciphertext[:kek.Size()], nil)
	if err != nil || len(aes) != 32 {
		return shape{}, errors.New("its first part is not RSA-OAEP-SHA-1 of an AES-256 key")
	}
	unwrapper, err := subtle.NewKWP(aes)
	if err != nil {
		return shape{}, err
	}
	plain, err := unwrapper.Unwrap(ciphertext[kek.Size():])
	if err != nil {
		return shape{}, errors.New("its second part is not RFC 5649 (initial value A65959A6)")
	}
	defer clear(plain)
	var der asn1.RawValue
	rest, err := asn1.Unmarshal(plain, &der)
	if err != nil {
		return shape{}, errors.New("it holds no DER")
	}
	for _, b := range rest {
		if b != 0 {
			return shape{}, errors.New("it holds more than one DER value")
		}
	}
	private, err := x509.ParsePKCS8PrivateKey(der.FullBytes)
	if err != nil {
		return shape{}, errors.New("it holds no PKCS#8 private key")
	}
	got, ok := private.(*rsa.PrivateKey)
	if !ok || !got.PublicKey.Equal(want) {
		return shape{}, errors.New("it holds another key than the one wrapped")
	}
	return shape{der: len(der.FullBytes), zeros: len(rest)}, nil
}
