package hsm

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	"github.com/miekg/pkcs11"
)

// errNotOAEP: the ciphertext does not decrypt. keyd never says why.
var errNotOAEP = errors.New("not an RSA-OAEP-256 ciphertext of this key")

// opener is one way to decrypt RSA-OAEP with SHA-256 and MGF1-SHA-256 (RFC 8017
// section 7.1), which Key Vault calls RSA-OAEP-256.
type opener struct {
	name string
	open func(s session, private pkcs11.ObjectHandle, size int, ciphertext []byte) ([]byte, error)
}

// openers lists the ways in the order in which keyd tries them. The raw way is for modules that know OAEP only with
// SHA-1, such as SoftHSM: keyd then checks the padding itself, in the HSM process.
func openers() []opener {
	return []opener{
		{"CKM_RSA_PKCS_OAEP with SHA-256", openOAEP},
		{"CKM_RSA_X_509, unpadded by keyd", openRaw},
	}
}

func openOAEP(s session, private pkcs11.ObjectHandle, _ int, ciphertext []byte) ([]byte, error) {
	params := pkcs11.NewOAEPParams(pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256, pkcs11.CKZ_DATA_SPECIFIED, nil)
	return s.decrypt(mechanism(pkcs11.CKM_RSA_PKCS_OAEP, params), private, ciphertext)
}

func openRaw(s session, private pkcs11.ObjectHandle, size int, ciphertext []byte) ([]byte, error) {
	em, err := s.decrypt(mechanism(pkcs11.CKM_RSA_X_509, nil), private, ciphertext)
	if err != nil {
		return nil, err
	}
	defer clear(em)
	if len(em) > size {
		return nil, errNotOAEP
	}
	full := make([]byte, size) // some modules strip leading zeros
	defer clear(full)
	copy(full[size-len(em):], em)
	return unpadOAEP(full)
}

func (s session) decrypt(m []*pkcs11.Mechanism, private pkcs11.ObjectHandle, ciphertext []byte) ([]byte, error) {
	if err := s.m.DecryptInit(s.h, m, private); err != nil {
		return nil, fmt.Errorf("C_DecryptInit: %w", err)
	}
	out, err := s.m.Decrypt(s.h, ciphertext)
	if err != nil {
		return nil, fmt.Errorf("C_Decrypt: %w", err)
	}
	return out, nil
}

// unpadOAEP is EME-OAEP decoding with SHA-256 and an empty label (RFC 8017
// section 7.1.2 step 3) in constant time. It changes em.
func unpadOAEP(em []byte) ([]byte, error) {
	const h = sha256.Size
	if len(em) < 2*h+2 {
		return nil, errNotOAEP
	}
	seed, db := em[1:1+h], em[1+h:]
	mgf1XOR(seed, db)
	mgf1XOR(db, seed)
	labelHash := sha256.Sum256(nil)
	good := subtle.ConstantTimeByteEq(em[0], 0) & subtle.ConstantTimeCompare(db[:h], labelHash[:])

	// After the hash come zeros, one byte 1 and the message.
	looking, invalid, start := 1, 0, 0
	for i, b := range db[h:] {
		zero := subtle.ConstantTimeByteEq(b, 0)
		one := subtle.ConstantTimeByteEq(b, 1)
		start = subtle.ConstantTimeSelect(looking&one, i, start)
		invalid |= looking & (1 - one) & (1 - zero)
		looking &= 1 - one
	}
	if good&(1-invalid)&(1-looking) != 1 {
		return nil, errNotOAEP
	}
	return append([]byte(nil), db[h+start+1:]...), nil
}

// mgf1XOR XORs MGF1-SHA-256 of seed (RFC 8017 appendix B.2.1) into out.
func mgf1XOR(out, seed []byte) {
	var counter [4]byte
	for n := uint32(0); len(out) > 0; n++ {
		binary.BigEndian.PutUint32(counter[:], n)
		digest := sha256.New()
		digest.Write(seed)
		digest.Write(counter[:])
		out = out[subtle.XORBytes(out, out, digest.Sum(nil)):]
	}
}

// opens reports whether the pair decrypts ciphertext to bytes with this SHA-256 sum. Modules answer a bad ciphertext
// with any error, even CKR_GENERAL_ERROR, and an error may pass. So opens answers no only if the token then decrypts a
// ciphertext of keyd's own, and fails with this one again: keyd never takes a failing token for a wrong key. mended is
// called with an error that passed.
func (o opener) opens(s session, p pair, ciphertext []byte, sum [sha256.Size]byte, mended func(error)) (bool, error) {
	if len(ciphertext) != p.key.Size() || new(big.Int).SetBytes(ciphertext).Cmp(p.key.N) >= 0 {
		return false, nil
	}
	plain, err := o.open(s, p.private, p.key.Size(), ciphertext)
	if first := err; first != nil && !aboutTheToken(first) {
		if control := o.possesses(s, p); control != nil {
			return false, control
		}
		if plain, err = o.open(s, p.private, p.key.Size(), ciphertext); err == nil {
			mended(first)
		}
	}
	if aboutTheToken(err) {
		return false, err
	}
	if err != nil {
		return false, nil
	}
	defer clear(plain)
	got := sha256.Sum256(plain)
	return subtle.ConstantTimeCompare(got[:], sum[:]) == 1, nil
}

// possesses proves that the private half belongs to the public one: the token decrypts a fresh secret that Go
// encrypted.
func (o opener) possesses(s session, p pair) error {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails (crypto/rand)
	ciphertext, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, p.key, secret, nil)
	if err != nil {
		return fmt.Errorf("encrypt to the public key: %w", err)
	}
	plain, err := o.open(s, p.private, p.key.Size(), ciphertext)
	if err != nil && !doesNotOpen(err) {
		return fmt.Errorf("open what the public key encrypted: %w", err)
	}
	if err != nil || subtle.ConstantTimeCompare(plain, secret) != 1 {
		return refused(Incomplete, "the private key does not belong to the public key")
	}
	return nil
}

// aboutTheToken: the error cannot be about a ciphertext.
func aboutTheToken(err error) bool { return sessionLost(err) || handleLost(err) || tokenLost(err) }

// doesNotOpen: the error says something definite about the ciphertext, not about the token.
func doesNotOpen(err error) bool {
	return errors.Is(err, errNotOAEP) || isCKR(err, pkcs11.CKR_ENCRYPTED_DATA_INVALID,
		pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE, pkcs11.CKR_DATA_INVALID, pkcs11.CKR_DATA_LEN_RANGE)
}
