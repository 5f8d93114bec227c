package emulator_test

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"maps"
	"slices"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/keyd-project/keyd/internal/emulator"
)

// sample is one kind of key with fresh material from outside the vault.
type sample struct {
	family  string
	curve   string // EC
	bits    int
	public  crypto.PublicKey
	jwk     azkeys.JSONWebKey // plain
	payload []byte            // of a transfer
}

func newRSASample(t *testing.T) sample {
	t.Helper()
	return rsaSample(t, generate(t))
}

func rsaSample(t *testing.T, key *rsa.PrivateKey) sample {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	return sample{family: "RSA", bits: key.N.BitLen(), public: &key.PublicKey, payload: der, jwk: plainRSA(key)}
}

func newECSample(t *testing.T, curve elliptic.Curve) sample {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	d, err := key.Bytes()
	must(t, err)
	point, err := key.PublicKey.Bytes()
	must(t, err)
	name := azkeys.CurveName(curve.Params().Name)
	half := len(point) / 2
	return sample{family: "EC", curve: string(name), public: &key.PublicKey, payload: der, jwk: azkeys.JSONWebKey{
		Crv: &name, X: point[1 : 1+half], Y: point[1+half:], D: d,
	}}
}

func newOctSample(t *testing.T, bits int) sample {
	t.Helper()
	raw := make([]byte, bits/8)
	_, err := rand.Read(raw)
	must(t, err)
	return sample{family: "oct", bits: bits, payload: raw, jwk: azkeys.JSONWebKey{K: raw}}
}

func samples(t *testing.T) []sample {
	t.Helper()
	return []sample{
		newRSASample(t),
		newECSample(t, elliptic.P256()), newECSample(t, elliptic.P384()), newECSample(t, elliptic.P521()),
		newOctSample(t, 128), newOctSample(t, 192), newOctSample(t, 256),
	}
}

// origins make a version of a sample's kind, in three ways. Created material is the vault's own.
func origins(t *testing.T, c *azkeys.Client, kek azkeys.KeyBundle, s sample,
	kty azkeys.KeyType) map[string]azkeys.KeyBundle {
	t.Helper()
	made := map[string]azkeys.KeyBundle{}
	parameters := azkeys.CreateKeyParameters{Kty: &kty}
	if s.curve != "" {
		parameters.Curve = ptr(azkeys.CurveName(s.curve))
	} else {
		parameters.KeySize = ptr(int32(s.bits))
	}
	created, err := c.CreateKey(t.Context(), "created", parameters, nil)
	must(t, err)
	made["created"] = created.KeyBundle
	maps.Copy(made, imports(t, c, kek, s, kty))
	return made
}

// imports are the ways in which material can be imported; the second needs a KEK.
func imports(t *testing.T, c *azkeys.Client, kek azkeys.KeyBundle, s sample,
	kty azkeys.KeyType) map[string]azkeys.KeyBundle {
	t.Helper()
	made := map[string]azkeys.KeyBundle{}
	plain := s.jwk
	plain.Kty = &kty
	imported, err := c.ImportKey(t.Context(), "plain", azkeys.ImportKeyParameters{Key: &plain}, nil)
	must(t, err)
	made["plain"] = imported.KeyBundle

	if kek.Key == nil {
		return made
	}
	blob := newTransfer(t, kek, generate(t))
	blob.plaintext = s.payload
	transferred := azkeys.JSONWebKey{Kty: &kty, Crv: s.jwk.Crv, T: blob.blob(t)}
	byok, err := c.ImportKey(t.Context(), "byok", azkeys.ImportKeyParameters{Key: &transferred}, nil)
	must(t, err)
	made["byok"] = byok.KeyBundle
	return made
}

func TestEachKindOfKeyIsCreatedImportedInPlainAndTransferred(t *testing.T) {
	e := start(t, emulator.Options{})
	for _, where := range []struct{ host, suffix string }{
		{standard, ""}, {premium, ""}, {premium, "-HSM"}, {managedHSM, "-HSM"},
	} {
		host := where.host
		c := newClient(t, e, host)
		var kek azkeys.KeyBundle
		if where.suffix != "" {
			kek = createKEK(t, c)
		}
		for _, s := range samples(t) {
			if s.family == "oct" && host != managedHSM {
				continue
			}
			kty := azkeys.KeyType(s.family + where.suffix)
			for how, key := range origins(t, c, kek, s, kty) {
				t.Run(host+" "+string(kty)+s.curve+" "+how, func(t *testing.T) {
					if *key.Key.Kty != kty || key.Key.D != nil || key.Key.K != nil || key.Key.T != nil {
						t.Errorf("the answer is not a public %s: %+v", kty, key.Key)
					}
					if how != "created" && !samePublic(key, s) {
						t.Error("the vault shows another public key")
					}
					exercise(t, c, how, s)
				})
			}
		}
	}
}

// Creating keys of these sizes takes seconds each, so they come from files.
func TestLargeRSAKeysAreImportedInPlainAndTransferred(t *testing.T) {
	e := start(t, emulator.Options{})
	for _, where := range []struct {
		host string
		kty  azkeys.KeyType
	}{{standard, "RSA"}, {premium, "RSA"}, {premium, "RSA-HSM"}, {managedHSM, "RSA-HSM"}} {
		c := newClient(t, e, where.host)
		var kek azkeys.KeyBundle
		if where.kty == "RSA-HSM" {
			kek = createKEK(t, c)
		}
		for _, bits := range []int{3072, 4096} {
			s := rsaSample(t, fixedKey(t, bits))
			for how, key := range imports(t, c, kek, s, where.kty) {
				if s.bits != bits || *key.Key.Kty != where.kty || len(key.Key.N) != bits/8 || !samePublic(key, s) {
					t.Errorf("%s %s of %d bits, %s: %+v", where.host, where.kty, bits, how, key.Key)
				}
				wrapAndUnwrap(t, c, how, "RSA-OAEP-256")
			}
		}
	}
}

func TestATransferMakesHSMKeysOnly(t *testing.T) {
	e := start(t, emulator.Options{})
	c := newClient(t, e, premium)
	kek := createKEK(t, c)
	for _, s := range []sample{newRSASample(t), newECSample(t, elliptic.P256())} {
		blob := newTransfer(t, kek, generate(t))
		blob.plaintext = s.payload
		_, err := c.ImportKey(t.Context(), "k", azkeys.ImportKeyParameters{Key: &azkeys.JSONWebKey{
			Kty: ptr(azkeys.KeyType(s.family)), Crv: s.jwk.Crv, T: blob.blob(t),
		}}, nil)
		wantError(t, err, 400, "BadParameter", "")
	}
}

func samePublic(key azkeys.KeyBundle, s sample) bool {
	switch s.family {
	case "RSA":
		return s.public.(*rsa.PublicKey).Equal(publicKey(key))
	case "EC":
		return string(*key.Key.Crv) == s.curve && bytes.Equal(key.Key.X, s.jwk.X) && bytes.Equal(key.Key.Y, s.jwk.Y)
	default:
		return key.Key.N == nil && key.Key.X == nil
	}
}

// exercise runs and reverses every algorithm of the sample's kind.
func exercise(t *testing.T, c *azkeys.Client, name string, s sample) {
	t.Helper()
	sha256Sum, sha384Sum, sha512Sum := sha256.Sum256([]byte("m")), sha512.Sum384([]byte("m")),
		sha512.Sum512([]byte("m"))
	digests := map[string][]byte{"256": sha256Sum[:], "384": sha384Sum[:], "512": sha512Sum[:]}
	sign := func(algorithms ...azkeys.SignatureAlgorithm) {
		for _, alg := range algorithms {
			signAndVerify(t, c, name, alg, digests[string(alg[2:])])
		}
	}
	switch s.family {
	case "RSA":
		for _, alg := range []azkeys.EncryptionAlgorithm{"RSA1_5", "RSA-OAEP", "RSA-OAEP-256"} {
			encryptAndDecrypt(t, c, name, azkeys.KeyOperationParameters{Algorithm: &alg, Value: []byte("secret")})
			wrapAndUnwrap(t, c, name, alg)
		}
		sign("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
	case "EC":
		sign(map[string]azkeys.SignatureAlgorithm{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}[s.curve])
	case "oct":
		prefix := azkeys.EncryptionAlgorithm(map[int]string{128: "A128", 192: "A192", 256: "A256"}[s.bits])
		iv := bytes.Repeat([]byte{7}, aes.BlockSize)
		for _, alg := range []azkeys.EncryptionAlgorithm{prefix + "KW", azkeys.EncryptionAlgorithmCKMAESKEYWRAP,
			azkeys.EncryptionAlgorithmCKMAESKEYWRAPPAD} {
			wrapAndUnwrap(t, c, name, alg)
		}
		sign(azkeys.SignatureAlgorithmHS256, azkeys.SignatureAlgorithmHS384, azkeys.SignatureAlgorithmHS512)
		encryptAndDecrypt(t, c, name, azkeys.KeyOperationParameters{Algorithm: ptr(prefix + "GCM"),
			Value: []byte("secret"), AdditionalAuthenticatedData: []byte("aad")})
		encryptAndDecrypt(t, c, name, azkeys.KeyOperationParameters{Algorithm: ptr(prefix + "CBC"),
			Value: bytes.Repeat([]byte("0123456789abcdef"), 2), IV: iv})
		encryptAndDecrypt(t, c, name,
			azkeys.KeyOperationParameters{Algorithm: ptr(prefix + "CBCPAD"), Value: []byte("secret"), IV: iv})
	}
}

func signAndVerify(t *testing.T, c *azkeys.Client, name string, alg azkeys.SignatureAlgorithm, digest []byte) {
	t.Helper()
	sig, err := c.Sign(t.Context(), name, "", azkeys.SignParameters{Algorithm: &alg, Value: digest}, nil)
	must(t, err)
	for _, good := range []bool{true, false} {
		signature := slices.Clone(sig.Result)
		if !good {
			signature[9] ^= 1
		}
		res, err := c.Verify(t.Context(), name, "",
			azkeys.VerifyParameters{Algorithm: &alg, Digest: digest, Signature: signature}, nil)
		must(t, err)
		if *res.Value != good {
			t.Errorf("%s: verify says %v", alg, *res.Value)
		}
	}
}

func encryptAndDecrypt(t *testing.T, c *azkeys.Client, name string, p azkeys.KeyOperationParameters) {
	t.Helper()
	enc, err := c.Encrypt(t.Context(), name, "", p, nil)
	must(t, err)
	dec, err := c.Decrypt(t.Context(), name, "", azkeys.KeyOperationParameters{
		Algorithm: p.Algorithm, Value: enc.Result, IV: enc.IV, AuthenticationTag: enc.AuthenticationTag,
		AdditionalAuthenticatedData: p.AdditionalAuthenticatedData,
	}, nil)
	must(t, err)
	if !bytes.Equal(dec.Result, p.Value) {
		t.Errorf("%s: %q", *p.Algorithm, dec.Result)
	}
}

func wrapAndUnwrap(t *testing.T, c *azkeys.Client, name string, alg azkeys.EncryptionAlgorithm) {
	t.Helper()
	secret := bytes.Repeat([]byte{3}, 32)
	wrapped, err := c.WrapKey(t.Context(), name, "", parameters(alg, secret), nil)
	must(t, err)
	opened, err := c.UnwrapKey(t.Context(), name, "", parameters(alg, wrapped.Result), nil)
	must(t, err)
	if !bytes.Equal(opened.Result, secret) {
		t.Errorf("%s: %q", alg, opened.Result)
	}
}

func TestAKeyRefusesWhatItsKindCannotDo(t *testing.T) {
	e := start(t, emulator.Options{})
	c := newClient(t, e, managedHSM)
	kek := createKEK(t, c)
	p256, oct := newECSample(t, elliptic.P256()), newOctSample(t, 256)
	origins(t, c, kek, p256, "EC-HSM")
	c2 := newClient(t, e, managedHSM)
	_, err := c2.CreateKey(t.Context(), "aes", azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeOctHSM)}, nil)
	must(t, err)
	digest := sha256.Sum256(nil)
	sign := func(name string, alg azkeys.SignatureAlgorithm, digest []byte) error {
		_, err := c.Sign(t.Context(), name, "", azkeys.SignParameters{Algorithm: &alg, Value: digest}, nil)
		return err
	}
	encrypt := func(p azkeys.KeyOperationParameters) error {
		_, err := c.Encrypt(t.Context(), "aes", "", p, nil)
		return err
	}
	importEC := func(crv *azkeys.CurveName, payload []byte) error {
		blob := newTransfer(t, kek, generate(t))
		blob.plaintext = payload
		_, err := c.ImportKey(t.Context(), "x",
			azkeys.ImportKeyParameters{Key: &azkeys.JSONWebKey{Kty: ptr(azkeys.KeyTypeECHSM), Crv: crv,
				T: blob.blob(t)}}, nil)
		return err
	}
	_, wrongOp := c.CreateKey(t.Context(), "x", azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeECHSM),
		KeyOps: []*azkeys.KeyOperation{ptr(azkeys.KeyOperationWrapKey)}}, nil)
	_, wrongCurve := c.CreateKey(t.Context(), "x",
		azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeECHSM), Curve: ptr(azkeys.CurveName("P-224"))}, nil)
	_, wrongSize := c.CreateKey(t.Context(), "x",
		azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeOctHSM), KeySize: ptr(int32(512))}, nil)
	for name, err := range map[string]error{
		"an algorithm of another curve":  sign("byok", "ES384", digest[:]),
		"an algorithm of another family": sign("byok", "RS256", digest[:]),
		"a digest of another size":       sign("byok", "ES256", digest[:20]),
		"an operation of another family": wrongOp,
		"an unknown curve":               wrongCurve,
		"an unknown size":                wrongSize,
		"an AES size not the key's":      encrypt(parameters("A128GCM", []byte("x"))),
		"CBC of half " +
			"a block": encrypt(azkeys.KeyOperationParameters{Algorithm: ptr(azkeys.EncryptionAlgorithm("A256CBC")),
			Value: []byte("x"), IV: make([]byte, 16)}),
		"CBC without an iv":           encrypt(parameters("A256CBCPAD", []byte("x"))),
		"a transfer without crv":      importEC(nil, p256.payload),
		"a transfer with another crv": importEC(ptr(azkeys.CurveNameP384), p256.payload),
		"a transfer of another kind":  importEC(ptr(azkeys.CurveNameP256), oct.payload),
	} {
		t.Run(name, func(t *testing.T) { wantError(t, err, 400, "BadParameter", "") })
	}
}
