package hsm

import (
	"crypto/rsa"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/miekg/pkcs11"
)

const publicExponent = 65537

// attr is an attribute with the value that a template sets or a read-back expects.
type attr struct {
	typ   uint
	name  string
	value any
}

func template(attrs []attr) []*pkcs11.Attribute {
	out := make([]*pkcs11.Attribute, len(attrs))
	for i, a := range attrs {
		out[i] = pkcs11.NewAttribute(a.typ, a.value)
	}
	return out
}

// privateAttrs are all attributes that keyd sets when it makes a private key. EXTRACTABLE allows wrapping the key.
// MODIFIABLE allows changing the label later, and clearing EXTRACTABLE.
func privateAttrs(onToken bool) []attr {
	return []attr{
		{pkcs11.CKA_CLASS, "CLASS", uint(pkcs11.CKO_PRIVATE_KEY)},
		{pkcs11.CKA_KEY_TYPE, "KEY_TYPE", uint(pkcs11.CKK_RSA)},
		{pkcs11.CKA_TOKEN, "TOKEN", onToken},
		{pkcs11.CKA_PRIVATE, "PRIVATE", true},
		{pkcs11.CKA_MODIFIABLE, "MODIFIABLE", true},
		{pkcs11.CKA_SENSITIVE, "SENSITIVE", true},
		{pkcs11.CKA_EXTRACTABLE, "EXTRACTABLE", true},
		{pkcs11.CKA_DECRYPT, "DECRYPT", true},
		{pkcs11.CKA_SIGN, "SIGN", false},
		{pkcs11.CKA_SIGN_RECOVER, "SIGN_RECOVER", false},
		{pkcs11.CKA_UNWRAP, "UNWRAP", false},
		{pkcs11.CKA_DERIVE, "DERIVE", false},
	}
}

// privateExtras are attributes that older modules do not know. The self-test finds out whether this module does.
func privateExtras() []attr {
	return []attr{
		{pkcs11.CKA_WRAP_WITH_TRUSTED, "WRAP_WITH_TRUSTED", false},
		{pkcs11.CKA_ALWAYS_AUTHENTICATE, "ALWAYS_AUTHENTICATE", false},
	}
}

// privateBirth is what the token itself says about how the key was made.
func privateBirth() []attr {
	return []attr{
		{pkcs11.CKA_LOCAL, "LOCAL", true},
		{pkcs11.CKA_ALWAYS_SENSITIVE, "ALWAYS_SENSITIVE", true},
		{pkcs11.CKA_NEVER_EXTRACTABLE, "NEVER_EXTRACTABLE", false},
		{pkcs11.CKA_KEY_GEN_MECHANISM, "KEY_GEN_MECHANISM", uint(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN)},
	}
}

func publicAttrs(onToken bool) []attr {
	return []attr{
		{pkcs11.CKA_CLASS, "CLASS", uint(pkcs11.CKO_PUBLIC_KEY)},
		{pkcs11.CKA_KEY_TYPE, "KEY_TYPE", uint(pkcs11.CKK_RSA)},
		{pkcs11.CKA_TOKEN, "TOKEN", onToken},
		{pkcs11.CKA_PRIVATE, "PRIVATE", false},
		{pkcs11.CKA_MODIFIABLE, "MODIFIABLE", true},
		{pkcs11.CKA_ENCRYPT, "ENCRYPT", true},
		{pkcs11.CKA_VERIFY, "VERIFY", false},
		{pkcs11.CKA_VERIFY_RECOVER, "VERIFY_RECOVER", false},
		{pkcs11.CKA_WRAP, "WRAP", false},
		{pkcs11.CKA_DERIVE, "DERIVE", false},
	}
}

// pairTemplates are the templates of C_GenerateKeyPair for one key pair.
func pairTemplates(id []byte, label string, bits int, onToken, extras bool) (public, private []*pkcs11.Attribute) {
	named := []attr{{pkcs11.CKA_ID, "ID", id}, {pkcs11.CKA_LABEL, "LABEL", label}}
	pub := append(publicAttrs(onToken), named...)
	pub = append(pub,
		attr{pkcs11.CKA_MODULUS_BITS, "MODULUS_BITS", uint(bits)},
		attr{pkcs11.CKA_PUBLIC_EXPONENT, "PUBLIC_EXPONENT", big.NewInt(publicExponent).Bytes()})
	priv := append(privateAttrs(onToken), named...)
	if extras {
		priv = append(priv, privateExtras()...)
	}
	return template(pub), template(priv)
}

// sight are the attributes whose values keyd knows because it saw the token make the key. So keyd can also use a
// token that does not report them.
var sight = []string{"LOCAL", "KEY_GEN_MECHANISM"}

// values are what a token reports of one object, by the type of the attribute.
type values map[uint][]byte

func valuesOf(types []uint, list [][]byte) values {
	v := make(values, len(types))
	for i, t := range types {
		v[t] = list[i]
	}
	return v
}

// compare checks attrs. problem names the first wrong attribute and those that the token does not report; it is "" if
// all are right. An attribute named in excused is no problem: if it is wrong, it is in unreported.
func (v values) compare(attrs []attr, excused []string) (problem string, unreported []attr) {
	var unknown []attr
	for _, a := range attrs {
		value := v[a.typ]
		switch {
		case hasValue(value, a.value):
		case slices.Contains(excused, a.name):
			unreported = append(unreported, a)
		case len(value) == 0:
			unknown = append(unknown, a)
		default:
			return fmt.Sprintf("CKA_%s is not %v", a.name, a.value), nil
		}
	}
	if len(unknown) > 0 {
		return notReported(unknown), nil
	}
	return "", unreported
}

// compare reads attrs of an object and compares them.
func (s session) compare(
	o pkcs11.ObjectHandle, attrs []attr, excused []string,
) (problem string, unreported []attr, err error) {
	types := make([]uint, len(attrs))
	for i, a := range attrs {
		types[i] = a.typ
	}
	list, err := s.reported(o, types...)
	if err != nil {
		return "", nil, err
	}
	problem, unreported = valuesOf(types, list).compare(attrs, excused)
	return problem, unreported, nil
}

func notReported(unreported []attr) string { return "the token does not report " + names(unreported) }

// names lists attributes with the spelling of the standard.
func names(attrs []attr) string {
	all := make([]string, len(attrs))
	for i, a := range attrs {
		all[i] = "CKA_" + a.name
	}
	return strings.Join(all, ", ")
}

// hasValue compares a value from the token with a bool or an unsigned long.
func hasValue(got []byte, want any) bool {
	switch w := want.(type) {
	case bool:
		return len(got) == 1 && (got[0] != 0) == w
	case uint:
		return len(got) == 8 && binary.NativeEndian.Uint64(got) == uint64(w)
	default:
		return false
	}
}

// rsaPublic reads the modulus and the exponent, which both halves of a pair have.
func (s session) rsaPublic(o pkcs11.ObjectHandle) (*rsa.PublicKey, error) {
	types := []uint{pkcs11.CKA_MODULUS, pkcs11.CKA_PUBLIC_EXPONENT}
	list, err := s.reported(o, types...)
	if err != nil {
		return nil, err
	}
	return valuesOf(types, list).rsaPublic()
}

func (v values) rsaPublic() (*rsa.PublicKey, error) {
	for _, a := range []attr{
		{pkcs11.CKA_MODULUS, "MODULUS", nil}, {pkcs11.CKA_PUBLIC_EXPONENT, "PUBLIC_EXPONENT", nil},
	} {
		if len(v[a.typ]) == 0 {
			return nil, refused(Incomplete, "%s", notReported([]attr{a}))
		}
	}
	e := new(big.Int).SetBytes(v[pkcs11.CKA_PUBLIC_EXPONENT])
	if !e.IsInt64() || e.Int64() != publicExponent {
		return nil, refused(Incomplete, "the public exponent is not %d", publicExponent)
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(v[pkcs11.CKA_MODULUS]), E: publicExponent}, nil
}

// kekAttrs describe a KEK as a session object that can only wrap.
func kekAttrs(pub *rsa.PublicKey) []*pkcs11.Attribute {
	return template([]attr{
		{pkcs11.CKA_CLASS, "CLASS", uint(pkcs11.CKO_PUBLIC_KEY)},
		{pkcs11.CKA_KEY_TYPE, "KEY_TYPE", uint(pkcs11.CKK_RSA)},
		{pkcs11.CKA_TOKEN, "TOKEN", false},
		{pkcs11.CKA_PRIVATE, "PRIVATE", false},
		{pkcs11.CKA_WRAP, "WRAP", true},
		{pkcs11.CKA_ENCRYPT, "ENCRYPT", false},
		{pkcs11.CKA_VERIFY, "VERIFY", false},
		{pkcs11.CKA_LABEL, "LABEL", "keyd-kek"},
		{pkcs11.CKA_MODULUS, "MODULUS", pub.N.Bytes()},
		{pkcs11.CKA_PUBLIC_EXPONENT, "PUBLIC_EXPONENT", big.NewInt(int64(pub.E)).Bytes()},
	})
}

// ephemeralAttrs describe the AES-256 key between KEK and private key.
func ephemeralAttrs() []*pkcs11.Attribute {
	return template([]attr{
		{pkcs11.CKA_CLASS, "CLASS", uint(pkcs11.CKO_SECRET_KEY)},
		{pkcs11.CKA_KEY_TYPE, "KEY_TYPE", uint(pkcs11.CKK_AES)},
		{pkcs11.CKA_TOKEN, "TOKEN", false},
		{pkcs11.CKA_PRIVATE, "PRIVATE", true},
		{pkcs11.CKA_SENSITIVE, "SENSITIVE", true},
		{pkcs11.CKA_EXTRACTABLE, "EXTRACTABLE", true},
		{pkcs11.CKA_WRAP, "WRAP", true},
		{pkcs11.CKA_UNWRAP, "UNWRAP", false},
		{pkcs11.CKA_ENCRYPT, "ENCRYPT", false},
		{pkcs11.CKA_DECRYPT, "DECRYPT", false},
		{pkcs11.CKA_SIGN, "SIGN", false},
		{pkcs11.CKA_VERIFY, "VERIFY", false},
		{pkcs11.CKA_LABEL, "LABEL", "keyd-ephemeral"},
		{pkcs11.CKA_VALUE_LEN, "VALUE_LEN", uint(32)},
	})
}
