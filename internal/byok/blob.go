package byok

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"

	"github.com/keyd-project/keyd/internal/key"
)

// Limits in bytes. The largest real blob, an RSA-4096 key under an RSA-4096 KEK,
// has a ciphertext of about 2900 bytes and is about 4200 bytes long.
const (
	MaxBlob       = 32 << 10
	MaxCiphertext = 16 << 10
	MaxGenerator  = 256
)

// The fixed values of the specification, version 1.0.0.
const (
	schemaVersion = "1.0.0"
	algorithm     = "dir"
	encryption    = "CKM_RSA_AES_KEY_WRAP"
)

// Blob is a parsed transfer blob.
type Blob struct {
	// Kid is the KEK's id with its version:
	// https://HOST[:443]/keys/NAME/VERSION, VERSION being 32 lower-case hex digits.
	Kid string
	// Ciphertext is the output of CKM_RSA_AES_KEY_WRAP (PKCS#11 v3.0 section
	// 2.1.21): the RSA-OAEP block, then the AES-KWP (RFC 5649) block.
	Ciphertext []byte
	// Generator names the tool and the HSM that made the blob; may be empty.
	Generator string
}

type document struct {
	SchemaVersion string `json:"schema_version"`
	Header        header `json:"header"`
	Ciphertext    string `json:"ciphertext"`
	Generator     string `json:"generator"`
}

type header struct {
	Kid string `json:"kid"`
	Alg string `json:"alg"`
	Enc string `json:"enc"`
}

// Encode makes the transfer blob of ciphertext for the KEK kid, which must carry
// its version. generator is at most 256 bytes of printable text, such as
// "keyd 1.0.0;SoftHSM v2 2.6". Encode refuses what Parse would refuse.
func Encode(kid string, ciphertext []byte, generator string) ([]byte, error) {
	if err := checkKid(kid); err != nil {
		return nil, err
	}
	if err := checkCiphertextSize(len(ciphertext)); err != nil {
		return nil, err
	}
	if err := checkGenerator(generator); err != nil {
		return nil, err
	}
	blob, err := json.Marshal(document{
		SchemaVersion: schemaVersion,
		Header:        header{Kid: kid, Alg: algorithm, Enc: encryption},
		Ciphertext:    base64.RawURLEncoding.EncodeToString(ciphertext),
		Generator:     generator,
	})
	if err != nil {
		return nil, fmt.Errorf("encode transfer blob: %w", err)
	}
	return blob, nil
}

// Parse reads a transfer blob of at most MaxBlob bytes and refuses every departure from
// the specification: an unknown or repeated field, another schema version, algorithm or
// encryption, base64 other than unpadded base64url (RFC 4648 section 5), and anything
// after the document. generator may be absent.
func Parse(data []byte) (Blob, error) {
	b, err := parse(data)
	if err != nil {
		return Blob{}, fmt.Errorf("transfer blob: %w", err)
	}
	return b, nil
}

func parse(data []byte) (Blob, error) {
	if len(data) > MaxBlob {
		return Blob{}, fmt.Errorf("%d bytes long, more than the limit of %d", len(data), MaxBlob)
	}
	top, err := readObject(data, "schema_version", "header", "ciphertext", "generator")
	if err != nil {
		return Blob{}, err
	}
	head, err := readObject(top["header"], "kid", "alg", "enc")
	if err != nil {
		return Blob{}, fmt.Errorf("header: %w", err)
	}
	for _, want := range []struct {
		object      map[string]json.RawMessage
		field, text string
	}{
		{top, "schema_version", schemaVersion},
		{head, "alg", algorithm},
		{head, "enc", encryption},
	} {
		got, err := readString(want.object, want.field)
		if err != nil {
			return Blob{}, err
		}
		if got != want.text {
			return Blob{}, fmt.Errorf("%s is %q, only %q is known", want.field, got, want.text)
		}
	}

	var b Blob
	if b.Kid, err = readString(head, "kid"); err != nil {
		return Blob{}, err
	}
	if err := checkKid(b.Kid); err != nil {
		return Blob{}, err
	}
	text, err := readString(top, "ciphertext")
	if err != nil {
		return Blob{}, err
	}
	if b.Ciphertext, err = decodeCiphertext(text); err != nil {
		return Blob{}, err
	}
	if _, present := top["generator"]; present {
		if b.Generator, err = readString(top, "generator"); err != nil {
			return Blob{}, err
		}
	}
	return b, checkGenerator(b.Generator)
}

func decodeCiphertext(text string) ([]byte, error) {
	switch {
	case strings.Contains(text, "="):
		return nil, errors.New("ciphertext is padded base64: the specification wants it without =")
	case strings.ContainsAny(text, "+/"):
		return nil,
			errors.New("ciphertext is in the standard base64 alphabet: the specification wants the URL alphabet, " +
				"with - and _")
	case strings.ContainsAny(text, "\r\n"): // which Go's decoder would skip
		return nil, errors.New("ciphertext is broken into lines: it must be one unbroken base64url string")
	}
	c, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("ciphertext is not base64url: %w", err)
	}
	return c, checkCiphertextSize(len(c))
}

func checkCiphertextSize(n int) error {
	if n == 0 {
		return errors.New("ciphertext is empty")
	}
	if n > MaxCiphertext {
		return fmt.Errorf("ciphertext is %d bytes long, more than the limit of %d", n, MaxCiphertext)
	}
	return nil
}

func checkGenerator(s string) error {
	if len(s) > MaxGenerator {
		return fmt.Errorf("generator is %d bytes long, more than the limit of %d", len(s), MaxGenerator)
	}
	for _, r := range s {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return fmt.Errorf("generator %q holds a character that is not printable", s)
		}
	}
	return nil
}

// hasOrigin reports whether a KEK's id names a vault. Its port can only be 443, which
// ids of a Managed HSM sometimes include.
func hasOrigin(u *url.URL) bool {
	origin, err := key.Origin(u)
	return err == nil && strings.Count(origin, ":") == 1
}

func checkKid(kid string) error {
	const form = "a KEK's id looks like https://HOST/keys/NAME/VERSION"
	u, err := url.Parse(kid)
	if err != nil {
		return fmt.Errorf("kid is not a URL: %s", form)
	}
	parts := strings.Split(u.Path, "/")
	switch {
	case !hasOrigin(u) || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("kid %q is not a key id: %s", kid, form)
	case len(parts) == 3 && parts[1] == "keys", len(parts) == 4 && parts[3] == "":
		return fmt.Errorf("kid %q has no version: the vault must know which version of the KEK it opens with", kid)
	case len(parts) != 4 || parts[0] != "" || parts[1] != "keys" || !key.ValidName(parts[2]):
		return fmt.Errorf("kid %q is not a key id: %s", kid, form)
	}
	if _, err := key.ParseID(parts[3]); err != nil {
		return fmt.Errorf("kid %q: version %w", kid, err)
	}
	if kid != "https://"+u.Host+u.Path {
		return fmt.Errorf("kid %q is not written plainly: %s", kid, form)
	}
	return nil
}
