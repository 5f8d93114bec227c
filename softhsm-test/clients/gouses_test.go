//go:build clients

package clients

import (
	"bytes"
	"context"
	"crypto/sha256"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

func secret() []byte {
	sum := sha256.Sum256([]byte("a secret of 32 bytes"))
	return sum[:]
}

func digestOf(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

func cipher(algorithm azkeys.EncryptionAlgorithm, value []byte) azkeys.KeyOperationParameters {
	return azkeys.KeyOperationParameters{Algorithm: to.Ptr(algorithm), Value: value}
}

// goUses are operations that use keys. azkeys does nothing locally.
func goUses() map[string]doing {
	all := map[string]doing{
		"create the keys to use": func(ctx context.Context, v *goVault) error {
			if _, err := v.create(ctx, "use-rsa", v.RSA, bits(2048)); err != nil {
				return err
			}
			if _, err := v.create(ctx, "use-ec", v.EC, curve("P-256")); err != nil {
				return err
			}
			_, err := v.create(ctx, "sign-only", v.EC,
				azkeys.CreateKeyParameters{Curve: to.Ptr(azkeys.CurveNameP256), KeyOps: ops("sign")})
			return err
		},
		"create the symmetric key to use": func(ctx context.Context, v *goVault) error {
			_, err := v.create(ctx, "use-oct", "oct-HSM", bits(256))
			return err
		},
		"encrypt RSA-OAEP-256": func(ctx context.Context, v *goVault) error {
			res, err := v.keys.Encrypt(ctx, "use-rsa", v.version("use-rsa"), cipher("RSA-OAEP-256", secret()), nil)
			v.results["encrypted"] = res.Result
			return err
		},
		"decrypt RSA-OAEP-256": func(ctx context.Context, v *goVault) error {
			res, err := v.keys.Decrypt(ctx, "use-rsa", v.version("use-rsa"),
				cipher("RSA-OAEP-256", v.results["encrypted"]), nil)
			return orWant(err, func() bool { return bytes.Equal(res.Result, secret()) })
		},
		"encrypt A256GCM": func(ctx context.Context, v *goVault) error {
			q := cipher("A256GCM", secret())
			q.AdditionalAuthenticatedData = []byte("aad")
			res, err := v.keys.Encrypt(ctx, "use-oct", v.version("use-oct"), q, nil)
			v.gcm = res.KeyOperationResult
			return err
		},
		"decrypt A256GCM": func(ctx context.Context, v *goVault) error {
			q := cipher("A256GCM", v.gcm.Result)
			q.AdditionalAuthenticatedData, q.IV, q.AuthenticationTag = []byte("aad"), v.gcm.IV, v.gcm.AuthenticationTag
			res, err := v.keys.Decrypt(ctx, "use-oct", v.version("use-oct"), q, nil)
			return orWant(err, func() bool { return bytes.Equal(res.Result, secret()) })
		},
		"wrap with an expired key": func(ctx context.Context, v *goVault) error {
			return wrapWhen(ctx, v, azkeys.KeyAttributes{Expires: later(-time.Minute)})
		},
		"unwrap with an expired key": unwrapAgain,
		"wrap with a key not yet valid": func(ctx context.Context, v *goVault) error {
			return wrapWhen(ctx, v, azkeys.KeyAttributes{NotBefore: later(time.Hour), Expires: later(2 * time.Hour)})
		},
		"unwrap with a key not yet valid": unwrapAgain,
		"unwrap with a disabled key": func(ctx context.Context, v *goVault) error {
			if err := change(ctx, v, azkeys.KeyAttributes{Enabled: to.Ptr(false)}); err != nil {
				return err
			}
			return unwrapAgain(ctx, v)
		},
		"verify with a key that may only sign": func(ctx context.Context, v *goVault) error {
			return signAndVerify(ctx, v, "ES256", "sign-only")
		},
		"sign with an algorithm of another kind of key": func(ctx context.Context, v *goVault) error {
			_, err := v.keys.Sign(ctx, "use-ec", v.version("use-ec"), signing("RS256"), nil)
			return err
		},
		"decrypt what the key did not encrypt": func(ctx context.Context, v *goVault) error {
			if _, err := v.create(ctx, "use-other", v.RSA, bits(2048)); err != nil {
				return err
			}
			_, err := v.keys.Decrypt(ctx, "use-other", v.version("use-other"),
				cipher("RSA-OAEP-256", v.results["encrypted"]), nil)
			return err
		},
	}
	for algorithm, name := range map[azkeys.EncryptionAlgorithm]string{"RSA-OAEP-256": "use-rsa", "RSA-OAEP": "use-rsa",
		"A256KW": "use-oct", "CKM_AES_KEY_WRAP_PAD": "use-oct"} {
		all["wrapKey "+string(algorithm)] = func(ctx context.Context, v *goVault) error {
			res, err := v.keys.WrapKey(ctx, name, v.version(name), cipher(algorithm, secret()), nil)
			v.results[string(algorithm)] = res.Result
			return err
		}
		all["unwrapKey "+string(algorithm)] = func(ctx context.Context,
			v *goVault) error {
			return unwrap(ctx, v, algorithm, name)
		}
	}
	for algorithm, name := range map[azkeys.SignatureAlgorithm]string{"RS256": "use-rsa", "PS256": "use-rsa",
		"ES256": "use-ec", "HS256": "use-oct"} {
		all["sign "+string(algorithm)] = func(ctx context.Context, v *goVault) error {
			res, err := v.keys.Sign(ctx, name, v.version(name), signing(algorithm), nil)
			v.results[string(algorithm)] = res.Result
			return err
		}
		all["verify "+string(algorithm)] = func(ctx context.Context, v *goVault) error {
			for text, good := range map[string]bool{"what was signed": true, "what was not": false} {
				res, err := verify(ctx, v, algorithm, name, digestOf(text), v.results[string(algorithm)])
				if err := orWant(err, func() bool { return *res.Value == good }); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return all
}

func signing(algorithm azkeys.SignatureAlgorithm) azkeys.SignParameters {
	return azkeys.SignParameters{Algorithm: to.Ptr(algorithm), Value: digestOf("what was signed")}
}

func verify(ctx context.Context, v *goVault, algorithm azkeys.SignatureAlgorithm, name string,
	digest, signature []byte) (azkeys.VerifyResponse, error) {
	q := azkeys.VerifyParameters{Algorithm: to.Ptr(algorithm), Digest: digest, Signature: signature}
	return v.keys.Verify(ctx, name, v.version(name), q, nil)
}

func signAndVerify(ctx context.Context, v *goVault, algorithm azkeys.SignatureAlgorithm, name string) error {
	res, err := v.keys.Sign(ctx, name, v.version(name), signing(algorithm), nil)
	if err != nil {
		return err
	}
	_, err = verify(ctx, v, algorithm, name, digestOf("what was signed"), res.Result)
	return err
}

func later(d time.Duration) *time.Time { return to.Ptr(time.Now().Add(d)) }

func change(ctx context.Context, v *goVault, attributes azkeys.KeyAttributes) error {
	_, err := v.keys.UpdateKey(ctx, "use-rsa", v.version("use-rsa"),
		azkeys.UpdateKeyParameters{KeyAttributes: &attributes}, nil)
	return err
}

func wrapWhen(ctx context.Context, v *goVault, attributes azkeys.KeyAttributes) error {
	if err := change(ctx, v, attributes); err != nil {
		return err
	}
	_, err := v.keys.WrapKey(ctx, "use-rsa", v.version("use-rsa"), cipher("RSA-OAEP-256", secret()), nil)
	return err
}

func unwrapAgain(ctx context.Context, v *goVault) error {
	return unwrap(ctx, v, "RSA-OAEP-256", "use-rsa")
}

func unwrap(ctx context.Context, v *goVault, algorithm azkeys.EncryptionAlgorithm, name string) error {
	res, err := v.keys.UnwrapKey(ctx, name, v.version(name), cipher(algorithm, v.results[string(algorithm)]), nil)
	return orWant(err, func() bool { return bytes.Equal(res.Result, secret()) })
}
