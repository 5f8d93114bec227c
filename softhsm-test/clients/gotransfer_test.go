//go:build clients

package clients

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/tink-crypto/tink-go/v2/kwp/subtle"
)

// Each pair is made once: an RSA pair takes its time.
var (
	ourRSA   = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })
	otherRSA = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })
	ourEC    = sync.OnceValues(func() (*ecdsa.PrivateKey,
		error) {
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	})
)

// transferBlob wraps plaintext to a key exchange key, by CKM_RSA_AES_KEY_WRAP.
func transferBlob(kid string, kek *rsa.PublicKey, plaintext []byte) ([]byte, error) {
	aes := make([]byte, 32)
	if _, err := rand.Read(aes); err != nil {
		return nil, err
	}
	wrappedAES, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, kek, aes, nil)
	if err != nil {
		return nil, err
	}
	kwp, err := subtle.NewKWP(aes)
	if err != nil {
		return nil, err
	}
	wrapped, err := kwp.Wrap(plaintext)
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{
		"schema_version": "1.0.0",
		"header":         map[string]string{"kid": kid, "alg": "dir", "enc": "CKM_RSA_AES_KEY_WRAP"},
		"ciphertext":     base64.RawURLEncoding.EncodeToString(append(wrappedAES, wrapped...)),
		"generator":      "clients; Go",
	})
}

// rsaPair returns a key pair and its PKCS#8 in DER.
func rsaPair() (*rsa.PrivateKey, []byte, error) {
	key, err := ourRSA()
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	return key, pkcs8, err
}

// ecPair returns a key pair's JWK, private half included, and its PKCS#8 in DER.
func ecPair() (azkeys.JSONWebKey, []byte, error) {
	key, err := ourEC()
	if err != nil {
		return azkeys.JSONWebKey{}, nil, err
	}
	private, err := key.Bytes()
	if err != nil {
		return azkeys.JSONWebKey{}, nil, err
	}
	point, err := key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		return azkeys.JSONWebKey{}, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	return azkeys.JSONWebKey{
		Kty: to.Ptr(azkeys.KeyTypeEC), Crv: to.Ptr(azkeys.CurveNameP256),
		D: private, X: point[1:33], Y: point[33:],
	}, pkcs8, err
}

func rsaJWK(key *rsa.PrivateKey) azkeys.JSONWebKey {
	return azkeys.JSONWebKey{
		Kty: to.Ptr(azkeys.KeyTypeRSA), N: key.N.Bytes(), E: big.NewInt(int64(key.E)).Bytes(), D: key.D.Bytes(),
		P: key.Primes[0].Bytes(), Q: key.Primes[1].Bytes(),
		DP: key.Precomputed.Dp.Bytes(), DQ: key.Precomputed.Dq.Bytes(), QI: key.Precomputed.Qinv.Bytes(),
	}
}

func publicOf(k azkeys.KeyBundle) *rsa.PublicKey {
	return &rsa.PublicKey{N: new(big.Int).SetBytes(k.Key.N), E: int(new(big.Int).SetBytes(k.Key.E).Int64())}
}
