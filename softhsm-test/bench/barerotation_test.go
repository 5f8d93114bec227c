package bench_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // the algorithm RSA-OAEP
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/miekg/pkcs11"
)

// bareRotations measures rotations one after the other. The first does not count, as keyd's has not.
func bareRotations(j job) (o outcome, err error) {
	t, err := openToken(j)
	if err != nil {
		return o, err
	}
	v, err := signIn(j.Vault)
	if err != nil {
		return o, err
	}
	r, err := newBareRotation(j, t, v)
	if err != nil {
		return o, err
	}
	if err := r.once(); err != nil {
		return o, err
	}
	before, began := processorTime(), time.Now()
	for range j.Times {
		if err := r.once(); err != nil {
			return o, err
		}
	}
	return outcome{Processor: processorTime() - before, Wall: time.Since(began)}, nil
}

// bareRotation is a rotation without its generation: the pair is there already.
type bareRotation struct {
	job
	token           bareToken
	vault           bareVault
	public, private pkcs11.ObjectHandle
	kek             bareKEK
}

// bareKEK is a vault's key exchange key.
type bareKEK struct {
	kid    string
	public *rsa.PublicKey
}

func (v bareVault) keyExchangeKey(name string) (k bareKEK, err error) {
	var b keyBundle
	if err := v.call(http.MethodGet, "/keys/"+name, nil, &b); err != nil {
		return k, err
	}
	k.kid = b.Key.Kid
	k.public, err = b.publicKey()
	return k, err
}

func newBareRotation(j job, t bareToken, v bareVault) (r bareRotation, err error) {
	r = bareRotation{job: j, token: t, vault: v}
	if r.public, r.private, err = t.generate(j.Bits); err != nil {
		return r, err
	}
	r.kek, err = v.keyExchangeKey(j.KEK)
	return r, err
}

// once lists the versions, wraps, imports, has the vault open and close, opens, and reads the newest version.
func (r bareRotation) once() error {
	path := "/keys/" + r.Key
	if err := r.vault.call(http.MethodGet, path+"/versions", nil, new(struct{})); err != nil {
		return err
	}
	public, err := r.token.publicKey(r.public)
	if err != nil {
		return err
	}
	wrapped, err := r.token.wrap(r.kek.public, r.private)
	if err != nil {
		return err
	}
	version, err := r.vault.importKey(r.Key, r.kek, wrapped)
	if err != nil {
		return err
	}
	if err := r.vault.prove(version, public, r.token, r.token.session, r.private); err != nil {
		return err
	}
	return r.vault.call(http.MethodGet, path, nil, new(keyBundle))
}

// importKey imports a wrapped key and returns the path of its version.
func (v bareVault) importKey(name string, kek bareKEK, wrapped []byte) (version string, err error) {
	blob, err := json.Marshal(map[string]any{
		"schema_version": "1.0.0", "generator": "bare",
		"header":     map[string]string{"kid": kek.kid, "alg": "dir", "enc": "CKM_RSA_AES_KEY_WRAP"},
		"ciphertext": base64.RawURLEncoding.EncodeToString(wrapped),
	})
	if err != nil {
		return "", err
	}
	var imported keyBundle
	err = v.call(http.MethodPut, "/keys/"+name, map[string]any{"key": map[string]any{
		"kty": "RSA-HSM", "key_hsm": base64.RawURLEncoding.EncodeToString(blob),
		"key_ops": []string{"wrapKey", "unwrapKey"},
	}}, &imported)
	return strings.TrimPrefix(imported.Key.Kid, v.url), err
}

// prove has the vault open what was sealed outside, and the token what the vault sealed.
func (v bareVault) prove(
	version string, public *rsa.PublicKey, t bareToken, s pkcs11.SessionHandle, private pkcs11.ObjectHandle,
) error {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	sealed, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, public, secret, nil) //nolint:gosec // of the algorithm
	if err != nil {
		return err
	}
	opened, err := v.crypto(version+"/unwrapkey", sealed)
	if err != nil || !bytes.Equal(opened, secret) {
		return errors.Join(err, errors.New("the vault does not open what was sealed outside"))
	}
	if sealed, err = v.crypto(version+"/wrapkey", secret); err != nil {
		return err
	}
	opened, err = t.decrypt(s, private, sealed)
	if err != nil || !bytes.Equal(opened, secret) {
		return errors.Join(err, errors.New("the token does not open what the vault sealed"))
	}
	return nil
}
