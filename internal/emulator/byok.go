package emulator

import (
	"crypto/rsa"
	"crypto/sha1" // the transfer's OAEP uses SHA-1 by definition
	"encoding/asn1"
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/keyd-project/keyd/internal/emulator/arm"
	"github.com/tink-crypto/tink-go/v2/kwp/subtle"
)

// transferBlob is the BYOK document (Microsoft: key-vault/keys/byok-specification).
type transferBlob struct {
	SchemaVersion string `json:"schema_version"`
	Header        struct {
		KID string `json:"kid"`
		Alg string `json:"alg"`
		Enc string `json:"enc"`
	} `json:"header"`
	Ciphertext string `json:"ciphertext"`
	Generator  string `json:"generator"`
}

// openBlob unwraps a transfer blob with the KEK that it names, as an HSM would, and
// parses a key of the family from it.
func (v *Vault) openBlob(raw []byte, family string) (material, error) {
	var blob transferBlob
	if err := json.Unmarshal(raw, &blob); err != nil {
		return nil, badParameter("key_hsm is not a transfer blob: %v", err)
	}
	switch {
	case blob.SchemaVersion != "1.0.0":
		return nil, badParameter("transfer blob: schema_version is %q, not 1.0.0", blob.SchemaVersion)
	case blob.Header.Alg != "dir":
		return nil, badParameter("transfer blob: header.alg is %q, not dir", blob.Header.Alg)
	case blob.Header.Enc != "CKM_RSA_AES_KEY_WRAP":
		return nil, badParameter("transfer blob: header.enc is %q, not CKM_RSA_AES_KEY_WRAP", blob.Header.Enc)
	}
	kek, err := v.exchangeKey(blob.Header.KID)
	if err != nil {
		return nil, err
	}
	ciphertext, err := decodeBase64(blob.Ciphertext)
	if err != nil {
		return nil, badParameter("transfer blob: ciphertext is %v", err)
	}
	plaintext, err := unwrapTransfer(kek, ciphertext)
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	return parseTransferredKey(plaintext, family, v.opts.StrictDER)
}

// exchangeKey finds the KEK that a blob's header names: in this vault, by an
// id with version, and with the single operation import.
func (v *Vault) exchangeKey(kid string) (*rsa.PrivateKey, error) {
	u, err := url.Parse(kid)
	if err != nil {
		return nil, badParameter("transfer blob: header.kid %q is not a key id", kid)
	}
	segments := strings.Split(strings.Trim(u.Path, "/"), "/")
	if len(segments) != 3 || segments[0] != "keys" {
		return nil, badParameter("transfer blob: header.kid %q must be https://VAULT/keys/NAME/VERSION", kid)
	}
	if arm.VaultHost(u) != v.config.Host {
		return nil, badParameter("transfer blob: header.kid %q is not of the vault %s", kid, v.config.Host)
	}
	_, kek, err := v.current().version(segments[1], segments[2])
	if err != nil {
		return nil, badParameter("transfer blob: there is no key exchange key %s", kid)
	}
	if kek.kty != "RSA-HSM" || !slices.Equal(kek.ops, []string{"import"}) {
		return nil,
			badParameter("transfer blob: %s is %s with operations %v; a key exchange key is RSA-HSM with import alone",
				kid, kek.kty, kek.ops)
	}
	if !kek.enabled {
		return nil, badParameter("transfer blob: the key exchange key %s is disabled", kid)
	}
	return asRSA(kek.held)
}

// unwrapTransfer opens CKM_RSA_AES_KEY_WRAP: RSA-OAEP (SHA-1) around an AES-256
// key, then RFC 5649 around the target.
func unwrapTransfer(kek *rsa.PrivateKey, ciphertext []byte) ([]byte, error) {
	if len(ciphertext) < kek.Size()+24 {
		return nil, badParameter("transfer blob: ciphertext has %d bytes; the key exchange key's part alone has %d",
			len(ciphertext), kek.Size())
	}
	aesKey, err := rsa.DecryptOAEP(sha1.New(), nil, kek, ciphertext[:kek.Size()], nil)
	if err != nil {
		return nil,
			badParameter("transfer blob: the first %d bytes are not RSA-OAEP (SHA-1) under this key exchange key",
				kek.Size())
	}
	defer clear(aesKey)
	if len(aesKey) != 32 {
		return nil, badParameter("transfer blob: the wrapped AES key has %d bytes, not 32", len(aesKey))
	}
	kwp, err := subtle.NewKWP(aesKey)
	if err != nil {
		return nil, badParameter("transfer blob: %v", err)
	}
	plaintext, err := kwp.Unwrap(ciphertext[kek.Size():])
	if err != nil {
		return nil, badParameter("transfer blob: the target is not wrapped as RFC 5649 says: %v", err)
	}
	return plaintext, nil
}

// parseTransferredKey reads PKCS#8, or the raw bytes of an oct key. It tolerates up to
// seven zero bytes after the DER unless strict, because SoftHSM 2.6.1 pads inside the
// KWP message.
func parseTransferredKey(plaintext []byte, family string, strict bool) (material, error) {
	if family == "oct" {
		return parseMaterial(family, plaintext)
	}
	var der asn1.RawValue
	rest, err := asn1.Unmarshal(plaintext, &der)
	if err != nil {
		return nil, badParameter("transfer blob: the plaintext is not DER: %v", err)
	}
	padding := len(rest) <= 7 && !slices.ContainsFunc(rest, func(b byte) bool { return b != 0 })
	if len(rest) > 0 && (strict || !padding) {
		return nil, badParameter("transfer blob: %d bytes follow the PKCS#8 DER", len(rest))
	}
	return parseMaterial(family, der.FullBytes)
}
