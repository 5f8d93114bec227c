package proof

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Vault is what a proof needs of a vault. Wrapping and encrypting are by
// RSA-OAEP-256, signing by RS256 (RFC 7518 sections 4.3 and 3.3).
type Vault interface {
	Get(ctx context.Context, name, version string) (key.Version, error)
	Wrap(ctx context.Context, name, version string, plaintext []byte) ([]byte, error)
	Unwrap(ctx context.Context, name, version string, ciphertext []byte) ([]byte, error)
	Encrypt(ctx context.Context, name, version string, plaintext []byte) ([]byte, error)
	Decrypt(ctx context.Context, name, version string, ciphertext []byte) ([]byte, error)
	Sign(ctx context.Context, name, version string, digest []byte) ([]byte, error)
	// ClockSkew is the vault's clock minus the local one, as the last answer told.
	ClockSkew() (skew time.Duration, known bool)
}

// HSM is what a proof needs of the HSM: whether the private key of a generation
// opens an RSA-OAEP-256 ciphertext to the plaintext with this SHA-256.
type HSM interface {
	Opens(ctx context.Context, id key.ID, ciphertext []byte, sum [sha256.Size]byte) (bool, error)
}

// Leg is the part of a proof that decided it.
type Leg string

// The legs, in the order in which they are tried.
const (
	LegModulus Leg = "modulus"      // the vault's public key is the pinned one
	LegType    Leg = "key-type"     // the vault keeps it in an HSM
	LegUnwrap  Leg = "vault-unwrap" // the vault opens what was closed with the public key
	LegWrap    Leg = "vault-wrap"   // the vault closes
	LegHSM     Leg = "hsm-open"     // the HSM's copy opens what the vault closed
	LegSign    Leg = "vault-sign"   // the vault signs, the public key verifies
)

// Closes reports whether the leg makes something new: it wraps or signs. When a vault
// does not do it, what is encrypted already can be read all the same.
func (l Leg) Closes() bool { return l == LegWrap || l == LegSign }

// Subject is what is to be proven.
type Subject struct {
	Key         string
	Version     string
	ID          key.ID
	Fingerprint key.Fingerprint // pinned
	Operations  []key.Operation
	// LostInHSM: the HSM no longer has the pair, so its leg is left out.
	LostInHSM bool
	// MayHaveExpired: an expiry date that has passed is no fault. It ends wrapping,
	// encrypting and signing, not their reverse, so the vault is not asked to close.
	MayHaveExpired bool
	Now            time.Time // by the local clock, to tell whether it has passed
}

// Result is how a proof ended. Leg and Err are set unless it passed, and then Passed
// has the legs that were tried.
type Result struct {
	Outcome key.Outcome
	Leg     Leg
	Err     error
	Passed  []Leg
}

// hsmKeyType is the only type that an import of keyd's may end as (RFC 7518
// section 6.1, with Key Vault's RSA-HSM).
const hsmKeyType = "RSA-HSM"

// secretSize is the size of the probe's secret in bytes: that of the AES-256 keys
// which consumers wrap.
const secretSize = 32

// Prove runs every leg that the subject's operations allow, and stops at the
// first that does not pass.
func Prove(ctx context.Context, v Vault, h HSM, s Subject) Result {
	pub, expired, result := modulus(ctx, v, s)
	if result.Outcome != key.Passed {
		return result
	}
	looked := result.Passed
	if result = rest(ctx, v, h, s, pub, expired); result.Outcome == key.Passed {
		result.Passed = append(looked, result.Passed...)
	}
	return result
}

// rest is every leg but those that only look at the public key.
func rest(ctx context.Context, v Vault, h HSM, s Subject, pub *rsa.PublicKey, expired bool) Result {
	pair, ok := key.ProofPair(s.Operations)
	if !ok {
		return inconclusive(LegModulus, fmt.Errorf("key %s has no pair of operations to prove it by: give it wrapKey and unwrapKey", s.Key))
	}
	switch pair[0] {
	case key.WrapKey:
		return roundTrip(ctx, h, s, pub, closing(v.Wrap, expired), v.Unwrap)
	case key.Encrypt:
		return roundTrip(ctx, h, s, pub, closing(v.Encrypt, expired), v.Decrypt)
	default:
		if expired {
			return passed()
		}
		return signature(ctx, v, s, pub)
	}
}

// expiryTolerance is how much earlier a version counts as expired than by the vault's
// clock, as far as that is known: it may pass during the proof.
const expiryTolerance = 10 * time.Minute

func (s Subject) expired(v Vault, at time.Time) bool {
	skew, _ := v.ClockSkew()
	return s.MayHaveExpired && !at.IsZero() && s.Now.Add(skew+expiryTolerance).After(at)
}

// closing is how the vault closes a secret; nil when it may not any more.
func closing(by operation, expired bool) operation {
	if expired {
		return nil
	}
	return by
}

func modulus(ctx context.Context, v Vault, s Subject) (pub *rsa.PublicKey, expired bool, r Result) {
	seen, err := v.Get(ctx, s.Key, s.Version)
	if err != nil {
		return nil, false, inconclusive(LegModulus, err)
	}
	switch m := seen.Material; m.Matches(s.Fingerprint) {
	case key.MatchUnknown:
		return nil, false, inconclusive(LegModulus, errors.New("the vault showed no public key that keyd can read"))
	case key.MatchNo:
		return nil, false, refuted(LegModulus, fmt.Errorf("the vault's version %s holds %s, the HSM's generation is %s",
			s.Version, m.Fingerprint(), s.Fingerprint))
	}
	pub, ok := seen.Material.RSA()
	if !ok {
		return nil, false, inconclusive(LegModulus,
			fmt.Errorf("keyd has no proof for keys of the family %s", seen.Material.Family()))
	}
	if seen.Kty == "" {
		return pub, s.expired(v, seen.Expires), passed(LegModulus)
	}
	if seen.Kty != hsmKeyType {
		return nil, false, refuted(LegType, fmt.Errorf("the vault's version %s is of type %s, which is not kept in an HSM", s.Version, seen.Kty))
	}
	return pub, s.expired(v, seen.Expires), passed(LegModulus, LegType)
}

type operation func(ctx context.Context, name, version string, in []byte) ([]byte, error)

// roundTrip proves both directions: closed with the public key and opened by the
// vault, closed by the vault (without closeIn: with the public key) and opened by
// the HSM.
func roundTrip(ctx context.Context, h HSM, s Subject, pub *rsa.PublicKey, closeIn, openIn operation) Result {
	secret := make([]byte, secretSize)
	rand.Read(secret)
	ciphertext, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, pub, secret, nil)
	if err != nil {
		return inconclusive(LegUnwrap, err)
	}
	opened, err := openIn(ctx, s.Key, s.Version, ciphertext)
	if err != nil {
		return inconclusive(LegUnwrap, err)
	}
	if !bytes.Equal(opened, secret) {
		return refuted(LegUnwrap, fmt.Errorf("the vault's version %s opened a secret to something else", s.Version))
	}

	legs := []Leg{LegUnwrap}
	rand.Read(secret)
	if closeIn == nil {
		ciphertext, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, pub, secret, nil)
	} else {
		legs = append(legs, LegWrap)
		ciphertext, err = closeIn(ctx, s.Key, s.Version, secret)
	}
	if err != nil {
		return inconclusive(LegWrap, err)
	}
	if s.LostInHSM {
		return passed(legs...)
	}
	yes, err := h.Opens(ctx, s.ID, ciphertext, sha256.Sum256(secret))
	if err != nil {
		return inconclusive(LegHSM, err)
	}
	if !yes {
		return refuted(LegHSM, fmt.Errorf("the HSM's copy does not open what version %s closed", s.Version))
	}
	return passed(append(legs, LegHSM)...)
}

func signature(ctx context.Context, v Vault, s Subject, pub *rsa.PublicKey) Result {
	nonce := make([]byte, secretSize)
	rand.Read(nonce)
	digest := sha256.Sum256(nonce)
	sig, err := v.Sign(ctx, s.Key, s.Version, digest[:])
	if err != nil {
		return inconclusive(LegSign, err)
	}
	if err := rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], sig); err != nil {
		return refuted(LegSign, fmt.Errorf("the signature of version %s does not verify: %w", s.Version, err))
	}
	return passed(LegSign)
}

func passed(legs ...Leg) Result { return Result{Outcome: key.Passed, Passed: legs} }

func inconclusive(leg Leg, err error) Result {
	return Result{Outcome: key.Inconclusive, Leg: leg, Err: err}
}

func refuted(leg Leg, err error) Result {
	return Result{Outcome: key.WasRefuted, Leg: leg, Err: err}
}
