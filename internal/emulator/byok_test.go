package emulator_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/keyd-project/keyd/internal/emulator"
)

func TestAnImportedKeyUnwrapsWhatWasWrappedToItBefore(t *testing.T) {
	e := start(t, emulator.Options{})
	for _, host := range []string{premium, managedHSM} {
		t.Run(host, func(t *testing.T) {
			c := newClient(t, e, host)
			kek := createKEK(t, c)
			target := generate(t)
			secret := []byte("a data encryption key of a service")
			before, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &target.PublicKey, secret, nil)
			if err != nil {
				t.Fatal(err)
			}

			res, err := c.ImportKey(t.Context(), "sa-cmk-key", importParameters(newTransfer(t, kek, target).blob(t)),
				nil)
			if err != nil {
				t.Fatal(err)
			}
			if publicKey(res.KeyBundle).N.Cmp(target.N) != 0 {
				t.Error("the vault shows another modulus")
			}
			if *res.Key.Kty != azkeys.KeyTypeRSAHSM || res.Key.T != nil || res.Key.D != nil ||
				*res.Attributes.Exportable {
				t.Errorf("the answer gives more than a public HSM key: %+v", res.Key)
			}
			opened, err := c.UnwrapKey(t.Context(), "sa-cmk-key", res.Key.KID.Version(), azkeys.KeyOperationParameters{
				Algorithm: ptr(azkeys.EncryptionAlgorithmRSAOAEP256), Value: before,
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(opened.Result, secret) {
				t.Error("unwrap gave another plaintext")
			}
			wrapped, err := c.WrapKey(t.Context(), "sa-cmk-key", "", azkeys.KeyOperationParameters{
				Algorithm: ptr(azkeys.EncryptionAlgorithmRSAOAEP), Value: secret,
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := e.Vault(host).Unwrap("sa-cmk-key", "", "RSA-OAEP", wrapped.Result); err != nil {
				t.Error(err)
			}
			if info := e.Vault(host).Versions("sa-cmk-key"); len(info) != 1 || !info[0].Imported ||
				info[0].Tags["attempt"] != "1" {
				t.Errorf("versions: %+v", info)
			}
		})
	}
	if len(e.Escapes()) != 0 {
		t.Errorf("calls escaped: %v", e.Escapes())
	}
}

func TestATransferMayNameTheKEKWithThePort(t *testing.T) {
	e := start(t, emulator.Options{})
	for _, host := range []string{premium, managedHSM} {
		c := newClient(t, e, host)
		b := newTransfer(t, createKEK(t, c), generate(t))
		b.kid = strings.Replace(b.kid, "/keys/", ":443/keys/", 1)
		_, err := c.ImportKey(t.Context(), "k", importParameters(b.blob(t)), nil)
		must(t, err)
	}
}

func TestABrokenTransferIsABadParameterWithAReason(t *testing.T) {
	e := start(t, emulator.Options{})
	c := newClient(t, e, premium)
	kek := createKEK(t, c)
	target := generate(t)
	_, foreign := importNew(t, c, kek, "no-kek")

	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecDER, err := x509.MarshalPKCS8PrivateKey(ecKey)
	if err != nil {
		t.Fatal(err)
	}
	good := newTransfer(t, kek, target)
	ciphertext := good.wrapped(t)
	spoiled := func(at int) []byte {
		c := bytes.Clone(ciphertext)
		c[at] ^= 1
		return c
	}
	with := func(f func(*transfer)) transfer { b := good; f(&b); return b }
	cases := map[string]struct {
		blob []byte
		says string
	}{
		"not JSON": {[]byte("what"), "not a transfer blob"},
		"schema":   {with(func(b *transfer) { b.schema = "2" }).blob(t), "schema_version"},
		"alg":      {with(func(b *transfer) { b.alg = "RSA" }).blob(t), "header.alg"},
		"enc":      {with(func(b *transfer) { b.enc = "A256KW" }).blob(t), "header.enc"},
		"no version": {with(func(b *transfer) { b.kid = "https://" + premium + "/keys/keyd-kek" }).blob(t),
			"header.kid"},
		"other vault": {with(func(b *transfer) { b.kid = "https://x.vault.azure.net/keys/keyd-kek/1" }).blob(t),
			"not of the vault"},
		"other port": {with(func(b *transfer) {
			b.kid = strings.Replace(b.kid, "/keys/", ":8443/keys/", 1)
		}).blob(t), "not of the vault"},
		"unknown KEK": {with(func(b *transfer) { b.kid += "0" }).blob(t), "no key exchange key"},
		"no KEK":      {with(func(b *transfer) { b.kid = string(*foreign.Key.KID) }).blob(t), "import alone"},
		"base64": {with(func(b *transfer) { b.encode = func([]byte) string { return "*" } }).blob(t),
			"base64url"},
		"too short":   {good.blobOf(t, ciphertext[:256]), "256 bytes"},
		"OAEP broken": {good.blobOf(t, spoiled(3)), "RSA-OAEP"},
		"KWP broken":  {good.blobOf(t, spoiled(len(ciphertext)-1)), "RFC 5649"},
		"AES-128":     {with(func(b *transfer) { b.aesKey = b.aesKey[:16] }).blob(t), "not 32"},
		"no DER": {with(func(b *transfer) { b.plaintext = bytes.Repeat([]byte{0xff}, 64) }).blob(t),
			"not DER"},
		"PKCS#1": {with(func(b *transfer) { b.plaintext = x509.MarshalPKCS1PrivateKey(target) }).blob(t),
			"PKCS#8"},
		"EC": {with(func(b *transfer) { b.plaintext = ecDER }).blob(t),
			"not the private key of an RSA key"},
		"trailing bytes": {with(func(b *transfer) { b.plaintext = append(bytes.Clone(b.plaintext), 1) }).blob(t),
			"follow"},
		"a page of padding": {with(func(b *transfer) {
			b.plaintext = append(bytes.Clone(b.plaintext), make([]byte, 8)...)
		}).blob(t), "follow"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := c.ImportKey(t.Context(), "sa-cmk-key", importParameters(test.blob), nil)
			if got := wantError(t, err, 400, "BadParameter", ""); !strings.Contains(got.Message, test.says) {
				t.Errorf("message %q does not say %q", got.Message, test.says)
			}
		})
	}
	if v := e.Vault(premium).Versions("sa-cmk-key"); len(v) != 0 {
		t.Errorf("a refused import left %d versions", len(v))
	}
}

func TestBase64OfEitherAlphabetPaddedOrNotIsAccepted(t *testing.T) {
	e := start(t, emulator.Options{})
	c := newClient(t, e, premium)
	kek := createKEK(t, c)
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding,
		base64.RawURLEncoding} {
		b := newTransfer(t, kek, generate(t))
		b.encode = encoding.EncodeToString
		if _, err := c.ImportKey(t.Context(), "k", importParameters(b.blob(t)), nil); err != nil {
			t.Error(err)
		}
	}
}

func TestZeroPaddingAfterTheDERIsAcceptedUnlessStrict(t *testing.T) {
	for _, strict := range []bool{false, true} {
		e := start(t, emulator.Options{StrictDER: strict})
		c := newClient(t, e, premium)
		b := newTransfer(t, createKEK(t, c), generate(t))
		b.plaintext = append(b.plaintext, 0, 0, 0)
		_, err := c.ImportKey(t.Context(), "k", importParameters(b.blob(t)), nil)
		if !strict && err != nil {
			t.Errorf("padding refused: %v", err)
		}
		if strict {
			wantError(t, err, 400, "BadParameter", "")
		}
	}
}

func TestAKEKHasNoOtherOperation(t *testing.T) {
	e := start(t, emulator.Options{})
	c := newClient(t, e, premium)
	_, err := c.CreateKey(t.Context(), "kek", azkeys.CreateKeyParameters{
		Kty:    ptr(azkeys.KeyTypeRSAHSM),
		KeyOps: []*azkeys.KeyOperation{ptr(azkeys.KeyOperationImport), ptr(azkeys.KeyOperationWrapKey)},
	}, nil)
	wantError(t, err, 400, "BadParameter", "")
	kek := createKEK(t, c)
	_, err = c.WrapKey(t.Context(), "keyd-kek", kek.Key.KID.Version(), azkeys.KeyOperationParameters{
		Algorithm: ptr(azkeys.EncryptionAlgorithmRSAOAEP256), Value: []byte("x"),
	}, nil)
	wantError(t, err, 403, "Forbidden", "KeyOperationForbidden")
}

func TestAReplacedKEKOpensOnlyItsOwnBlobs(t *testing.T) {
	e := start(t, emulator.Options{})
	c := newClient(t, e, premium)
	old := createKEK(t, c)
	id, err := e.Vault(premium).ReplaceKEK("keyd-kek")
	if err != nil {
		t.Fatal(err)
	}
	b := newTransfer(t, old, generate(t))
	if _, err := c.ImportKey(t.Context(), "k", importParameters(b.blob(t)), nil); err != nil {
		t.Errorf("the old version is still there: %v", err)
	}
	b.kid = "https://" + premium + "/keys/keyd-kek/" + id
	_, err = c.ImportKey(t.Context(), "k", importParameters(b.blob(t)), nil)
	wantError(t, err, 400, "BadParameter", "")
}
