package byok

import (
	"fmt"

	"github.com/keyd-project/keyd/internal/key"
)

// Inspection is what a blob's lengths reveal without any key.
type Inspection struct {
	// KEKBytes is the length of the RSA-OAEP block, the KEK's modulus size.
	KEKBytes int
	// WrappedBytes is the length of the AES-KWP block behind it.
	WrappedBytes int
	// The wrapped plaintext (PKCS#8 DER, perhaps with padding) has between
	// MinPlain and MaxPlain bytes.
	MinPlain, MaxPlain int
	// Spec is the key that a plaintext of this length can hold.
	Spec key.Spec
}

// Inspect checks a blob's length against its KEK's modulus size in bits: KEK
// bytes + 8*ceil(n/8) + 8, for an n that the PKCS#8 DER (RFC 5958) of an RSA key
// of one of key.Specs can have. It refuses any other length, so a truncated,
// double-wrapped or plainly wrong ciphertext is found before a vault sees it.
func Inspect(b Blob, kekBits int) (Inspection, error) {
	switch kekBits {
	case 2048, 3072, 4096:
	default:
		return Inspection{}, fmt.Errorf("transfer blob: a KEK of %d bits: only 2048, 3072 and 4096 exist", kekBits)
	}
	i := Inspection{KEKBytes: kekBits / 8}
	i.WrappedBytes = len(b.Ciphertext) - i.KEKBytes
	// RFC 5649: eight bytes of prefix, then the plaintext padded to eight bytes.
	if i.WrappedBytes < 24 || i.WrappedBytes%8 != 0 {
		return Inspection{}, fmt.Errorf(
			"transfer blob: a ciphertext of %d bytes does not fit a KEK of %d bits: %d bytes, then a multiple of 8, "+
				"were expected; was it wrapped to another KEK?",
			len(b.Ciphertext), kekBits, i.KEKBytes)
	}
	i.MaxPlain = i.WrappedBytes - 8
	i.MinPlain = i.MaxPlain - 7
	for _, spec := range key.Specs() {
		longest := pkcs8Length(spec.Bits())
		if i.MaxPlain >= longest-pkcs8Slack && i.MinPlain <= longest+pkcs8Slack {
			i.Spec = spec
			return i, nil
		}
	}
	return Inspection{}, fmt.Errorf(
		"transfer blob: it wraps %d to %d bytes, which is no PKCS#8 form of an RSA-2048, RSA-3072 or RSA-4096 key",
		i.MinPlain, i.MaxPlain)
}

// pkcs8Slack allows for numbers with leading zeros, which make the form shorter,
// and for HSMs that pad it or add attributes, which make it longer.
const pkcs8Slack = 64

// pkcs8Length is the length of the PKCS#8 DER of an RSA key with e = 65537 when
// each of its numbers has its full size.
func pkcs8Length(bits int) int {
	whole := derLength(bits/8 + 1)                                             // n and d, each behind a zero byte
	half := derLength(bits/16 + 1)                                             // p, q, dp, dq, qinv
	rsaPrivateKey := derLength(derLength(1) + derLength(3) + 2*whole + 5*half) // version, e
	const algorithmIdentifier = 15                                             // rsaEncryption, NULL
	return derLength(derLength(1) + algorithmIdentifier + derLength(rsaPrivateKey))
}

// derLength is the length of a DER value (X.690 section 8.1) of n content bytes.
func derLength(n int) int {
	switch {
	case n < 0x80:
		return 2 + n
	case n < 0x100:
		return 3 + n
	default:
		return 4 + n
	}
}
