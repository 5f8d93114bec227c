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

// Vault is what a proof needs from a vault. Wrap and Encrypt use RSA-OAEP-256, Sign uses RS256 (RFC 7518 sections 4.3
// and 3.3).
type Vault interface {
	Get(ctx context.Context, name, version string) (key.Version, error)
	Wrap(ctx context.Context, name, version string, plaintext []byte) ([]byte, error)
	Unwrap(ctx context.Context, name, version string, ciphertext []byte) ([]byte, error)
	Encrypt(ctx context.Context, name, version string, plaintext []byte) ([]byte, error)
	Decrypt(ctx context.Context, name, version string, ciphertext []byte) ([]byte, error)
	Sign(ctx context.Context, name, version string, digest []byte) ([]byte, error)
	// ClockSkew is the vault's clock minus the local one, taken from the last answer.
	ClockSkew() (skew time.Duration, known bool)
}

// HSM is what a proof needs from the HSM. Opens reports whether the private key of a generation decrypts an
// RSA-OAEP-256 ciphertext to the plaintext with this SHA-256.
type HSM interface {
	Opens(ctx context.Context, id key.ID, ciphertext []byte, sum [sha256.Size]byte) (bool, error)
}

// Leg is the part of a proof that decided it.
type Leg string

// The legs, in the order in which a proof tries them.
const (
	LegModulus Leg = "modulus"      // the vault's public key is the pinned one
	LegType    Leg = "key-type"     // the vault keeps it in an HSM
	LegUnwrap  Leg = "vault-unwrap" // the vault decrypts what keyd encrypted with the public key
	LegWrap    Leg = "vault-wrap"   // the vault encrypts
	LegHSM     Leg = "hsm-open"     // the HSM's copy decrypts what the vault encrypted
	LegSign    Leg = "vault-sign"   // the vault signs, the public key verifies
)

// Closes reports whether the vault wraps or signs in this leg. When only such a leg fails, consumers can still read
// what they encrypted before.
func (l Leg) Closes() bool { return l == LegWrap || l == LegSign }

// Subject is the version to prove.
type Subject struct {
	Key         string
	Version     string
	ID          key.ID
	Fingerprint key.Fingerprint // pinned
	Operations  []key.Operation
	// LostInHSM: the HSM no longer has the pair, so the proof skips the HSM's leg.
	LostInHSM bool
	// MayHaveExpired: an expiry date in the past is no fault. An expired version no longer wraps, encrypts or signs,
	// but still unwraps, decrypts and verifies. So the proof does not ask the vault to wrap, encrypt or sign.
	MayHaveExpired bool
	Now            time.Time // by the local clock; the proof compares the expiry date with it
	// Shown is the version as the vault showed it to an earlier proof that passed. A version's material and type never
	// change, so the proof does not ask for them again. nil: it asks.
	Shown *key.Version
}

// Result is how a proof ended. Unless the proof passed, Leg and Err say where and why it stopped. If it passed,
// Passed lists the legs, and Shown is the version as the vault showed it, for the subject of a later proof.
type Result struct {
	Outcome key.Outcome
	Leg     Leg
	Err     error
	Passed  []Leg
	Shown   *key.Version
}

// hsmKeyType is the only key type that a version imported by keyd may have (RFC 7518 section 6.1, with Key Vault's
// RSA-HSM).
const hsmKeyType = "RSA-HSM"

// secretSize is the size of the proof's secret in bytes: the size of the AES-256 keys that consumers wrap.
const secretSize = 32

// Prove runs every leg that the subject's operations allow. It stops at the first leg that does not pass.
func Prove(ctx context.Context, v Vault, h HSM, s Subject) Result {
	pub, expired, result := modulus(ctx, v, s)
	if result.Outcome != key.Passed {
		return result
	}
	looked := result
	if result = rest(ctx, v, h, s, pub, expired); result.Outcome == key.Passed {
		result.Passed, result.Shown = append(looked.Passed, result.Passed...), looked.Shown
	}
	return result
}

// rest runs every leg except those that only look at the public key.
func rest(ctx context.Context, v Vault, h HSM, s Subject, pub *rsa.PublicKey, expired bool) Result {
	pair, ok := key.ProofPair(s.Operations)
	if !ok {
		return inconclusive(
			LegModulus,
			fmt.Errorf("key %s has no pair of operations to prove it with: give it wrapKey and unwrapKey", s.Key),
		)
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

// expiryTolerance is how long before its expiry a version already counts as expired: it may expire during the proof.
// keyd uses the vault's clock where it knows it.
const expiryTolerance = 10 * time.Minute

func (s Subject) expired(v Vault, at time.Time) bool {
	skew, _ := v.ClockSkew()
	return s.MayHaveExpired && !at.IsZero() && s.Now.Add(skew+expiryTolerance).After(at)
}

// closing returns the operation by which the vault encrypts a secret; nil when the version has expired.
func closing(by operation, expired bool) operation {
	if expired {
		return nil
	}
	return by
}

func modulus(ctx context.Context, v Vault, s Subject) (pub *rsa.PublicKey, expired bool, r Result) {
	seen, err := shown(ctx, v, s)
	if err != nil {
		return nil, false, inconclusive(LegModulus, err)
	}
	switch m := seen.Material; m.Matches(s.Fingerprint) {
	case key.MatchUnknown:
		return nil, false, inconclusive(LegModulus, errors.New("the vault showed no public key that keyd can read"))
	case key.MatchNo:
		return nil, false, refuted(
			LegModulus,
			fmt.Errorf("the vault's version %s holds %s, the HSM's generation is %s",
				s.Version, m.Fingerprint(), s.Fingerprint),
		)
	}
	pub, ok := seen.Material.RSA()
	if !ok {
		return nil, false, inconclusive(LegModulus,
			fmt.Errorf("keyd has no proof for keys of the family %s", seen.Material.Family()))
	}
	legs := []Leg{LegModulus}
	switch seen.Kty {
	case "":
	case hsmKeyType:
		legs = append(legs, LegType)
	default:
		return nil, false, refuted(
			LegType,
			fmt.Errorf("the vault's version %s is of type %s, which is not kept in an HSM", s.Version, seen.Kty),
		)
	}
	r = passed(legs...)
	r.Shown = &key.Version{ID: seen.ID, Kty: seen.Kty, Material: seen.Material, Expires: seen.Expires}
	return pub, s.expired(v, seen.Expires), r
}

// Earlier is a version as the vault showed it to an earlier proof that passed: of the generation's material, kept in an
// HSM. m is the HSM's own copy of that material.
func Earlier(version string, m key.Material, expires time.Time) *key.Version {
	return &key.Version{ID: version, Kty: hsmKeyType, Material: m, Expires: expires}
}

// shown is the version as the vault shows it, or showed it before.
func shown(ctx context.Context, v Vault, s Subject) (key.Version, error) {
	if s.Shown != nil {
		return *s.Shown, nil
	}
	return v.Get(ctx, s.Key, s.Version)
}

type operation func(ctx context.Context, name, version string, in []byte) ([]byte, error)

// roundTrip proves both directions. keyd encrypts with the public key and the vault decrypts; then the vault encrypts
// and the HSM decrypts. Without closeIn, keyd encrypts the second secret too.
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
